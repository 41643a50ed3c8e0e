// A real Kubernetes API server with the etcd below it, in one process, for the suites.
//
//	cluster api-server FOLDER     etcd and kube-apiserver; state, FOLDER/kubeconfig and FOLDER/admin.token
//	cluster controllers FOLDER    the controllers that make Jobs, CronJobs and namespaces move
//
// The first prints "ready" once /readyz says so. Both end when their standard input closes, and the first then
// removes its folder, so that a dead test leaves nothing behind. There is no kubelet and no scheduler: pods are
// never run.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/embed"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/rest"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

// How long a start may take.
const startMax = 120 * time.Second

// The controllers that run.
var controllerNames = []string{
	"cronjob-controller",
	"garbage-collector-controller",
	"job-controller",
	"namespace-controller",
	"root-ca-certificate-publisher-controller",
	"serviceaccount-controller",
	"ttl-after-finished-controller",
}

func main() {
	if len(os.Args) != 3 {
		fail(errors.New("usage: cluster api-server|controllers FOLDER"))
	}
	mode, folder := os.Args[1], os.Args[2]
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		if mode == "api-server" {
			_ = os.RemoveAll(folder)
		}
		os.Exit(0)
	}()
	switch mode {
	case "api-server":
		fail(apiServer(folder))
	case "controllers":
		fail(runControllers(folder))
	default:
		fail(fmt.Errorf("no mode %q", mode))
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func apiServer(folder string) error {
	database, err := startEtcd(folder)
	if err != nil {
		return err
	}
	defer database.Close()
	if err := writeServiceAccountKey(folder); err != nil {
		return err
	}
	token, err := writeToken(folder)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	ctx := genericapiserver.SetupSignalContext()
	completed, err := serverOptions(ctx, folder, listener, port)
	if err != nil {
		return err
	}
	go func() { fail(sayWhenReady(folder, port, token)) }()
	return apiserver.Run(ctx, completed)
}

func startEtcd(folder string) (*embed.Etcd, error) {
	config := embed.NewConfig()
	config.Dir = filepath.Join(folder, "etcd")
	config.LogLevel = "error"
	config.UnsafeNoFsync = true
	config.EnableGRPCGateway = false
	config.ListenClientUrls = []url.URL{{Scheme: "unix", Path: socket(folder, "client")}}
	config.ListenPeerUrls = []url.URL{{Scheme: "unix", Path: socket(folder, "peer")}}
	// Nobody asks for these; they must look like an address.
	advertised := []url.URL{{Scheme: "http", Host: "localhost:1"}}
	config.AdvertiseClientUrls = advertised
	config.AdvertisePeerUrls = advertised
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	database, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-database.Server.ReadyNotify():
		return database, nil
	case err := <-database.Err():
		return nil, err
	case <-time.After(startMax):
		return nil, errors.New("etcd does not start")
	}
}

func socket(folder, name string) string {
	return filepath.Join(folder, name+".sock")
}

func serverOptions(
	ctx context.Context, folder string, listener net.Listener, port int,
) (options.CompletedOptions, error) {
	none := options.CompletedOptions{}
	server := options.NewServerRunOptions()
	flags := pflag.NewFlagSet("api-server", pflag.ContinueOnError)
	for _, set := range server.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	key := filepath.Join(folder, "service-account.key")
	err := flags.Parse([]string{
		"--etcd-servers=unix://" + socket(folder, "client"),
		"--cert-dir=" + filepath.Join(folder, "certificates"),
		"--token-auth-file=" + filepath.Join(folder, "tokens.csv"),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + key,
		"--service-account-signing-key-file=" + key,
		"--service-cluster-ip-range=10.0.0.0/24",
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", port),
		"--endpoint-reconciler-type=none",
		"--disable-admission-plugins=ServiceAccount",
	})
	if err != nil {
		return none, err
	}
	server.SecureServing.Listener = listener
	if err := server.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return none, err
	}
	completed, err := server.Complete(ctx)
	if err != nil {
		return none, err
	}
	if faults := completed.Validate(); len(faults) != 0 {
		return none, errors.Join(faults...)
	}
	return completed, nil
}

func writeServiceAccountKey(folder string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	bytes, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: bytes})
	return os.WriteFile(filepath.Join(folder, "service-account.key"), text, 0o600)
}

// Writes the list of tokens: one, of somebody who may do everything.
func writeToken(folder string) (string, error) {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	token := hex.EncodeToString(random)
	line := token + ",admin,admin,system:masters\n"
	return token, os.WriteFile(filepath.Join(folder, "tokens.csv"), []byte(line), 0o600)
}

// Waits for /readyz, writes the kubeconfig, and says so.
func sayWhenReady(folder string, port int, token string) error {
	server := fmt.Sprintf("https://127.0.0.1:%d", port)
	started := time.Now()
	for {
		authority, err := os.ReadFile(filepath.Join(folder, "certificates", "apiserver.crt"))
		if err == nil {
			err = askReady(server, authority, token)
		}
		if err == nil {
			if err := writeKubeconfig(folder, server, authority, token); err != nil {
				return err
			}
			fmt.Println("ready")
			return nil
		}
		if time.Since(started) > startMax {
			return fmt.Errorf("the API server is not ready: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func askReady(server string, authority []byte, token string) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	request, err := http.NewRequest(http.MethodGet, server+"/readyz", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

func writeKubeconfig(folder, server string, authority []byte, token string) error {
	text := strings.NewReplacer(
		"SERVER", server,
		"AUTHORITY", base64.StdEncoding.EncodeToString(authority),
		"TOKEN", token,
	).Replace(`apiVersion: v1
kind: Config
current-context: suites
contexts:
- name: suites
  context: {cluster: suites, user: admin}
clusters:
- name: suites
  cluster: {server: "SERVER", certificate-authority-data: "AUTHORITY"}
users:
- name: admin
  user: {token: "TOKEN"}
`)
	return os.WriteFile(filepath.Join(folder, "kubeconfig"), []byte(text), 0o600)
}

func runControllers(folder string) error {
	command := controllers.NewControllerManagerCommand()
	command.SetArgs([]string{
		"--kubeconfig=" + filepath.Join(folder, "kubeconfig"),
		"--controllers=" + strings.Join(controllerNames, ","),
		"--root-ca-file=" + filepath.Join(folder, "certificates", "apiserver.crt"),
		"--leader-elect=false",
		"--secure-port=0",
	})
	return command.Execute()
}
