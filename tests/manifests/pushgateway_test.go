// What a run pushes is taken by a real Pushgateway, built from its own module, and served by it as Prometheus scrapes it.
package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// pushgateway builds and starts one; returns its address.
func pushgateway(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "pushgateway")
	if said, err := exec.Command("go", "build", "-C", "pushgateway", "-o", program, "github.com/prometheus/pushgateway").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	server := exec.Command(program, "--web.listen-address="+address)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	url := "http://" + address
	for range 600 {
		if answer, err := http.Get(url + "/-/ready"); err == nil {
			answer.Body.Close()
			return url
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the Pushgateway does not answer")
	return ""
}

// get returns the body of what is there.
func get(t *testing.T, url string) []byte {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v: %s", url, answer.Status, err, body)
	}
	return body
}

// of returns the metric of a repository.
func of(t *testing.T, found map[string]*dto.MetricFamily, name, repository string) float64 {
	t.Helper()
	for _, metric := range found[name].GetMetric() {
		if labels := labels(metric); labels["repository"] == repository && labels["job"] == "careen" {
			return number(metric)
		}
	}
	t.Fatalf("no %s of %q: %v", name, repository, found[name])
	return 0
}

// Goal: a real Pushgateway takes what a run pushes as a whole, keeps repositories with odd names apart, and after a
// failure still serves the time of the last success; method: two repositories, a run of each, then a failure of one.
func TestAPushgatewayTakesIt(t *testing.T) {
	careen(t)
	url, folder := pushgateway(t), t.TempDir()
	repositories := []string{filepath.Join(folder, `odd "na/me`), filepath.Join(folder, "plain")}
	for _, repository := range repositories {
		if code, said := careenRun(t, "demo", "--no-run", "--keep", repository, "--entries=1000", "--index-blobs=10"); code != 0 {
			t.Fatal(said)
		}
		code, said := careenRun(t, "run", repository, "--mode=quick", "--metrics-push="+url)
		if code != 0 || strings.Contains(said, "cannot be pushed") {
			t.Fatal(said)
		}
	}
	read := func() map[string]*dto.MetricFamily {
		return families(t, string(get(t, url+"/metrics")))
	}
	done := read()
	var success float64
	for _, repository := range repositories {
		if of(t, done, "push_failure_time_seconds", repository) != 0 {
			t.Errorf("the push of %q was refused", repository)
		}
		if of(t, done, "careen_exit_code", repository) != 0 {
			t.Errorf("%v", done["careen_exit_code"])
		}
		success = of(t, done, "careen_last_success_timestamp_seconds", repository)
		if now := float64(time.Now().Unix()); success < now-600 || success > now+1 {
			t.Errorf("success at %v", success)
		}
	}
	if code, said := careenRun(t, "run", repositories[1], "--memory=1MiB", "--metrics-push="+url); code != 20 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	failed := read()
	if of(t, failed, "careen_exit_code", repositories[1]) != 20 || of(t, failed, "careen_exit_code", repositories[0]) != 0 {
		t.Errorf("%v", failed["careen_exit_code"])
	}
	if of(t, failed, "careen_last_success_timestamp_seconds", repositories[1]) != success {
		t.Errorf("the last success is lost: %v", failed["careen_last_success_timestamp_seconds"])
	}
	// Its own account of it: a group for each repository.
	var groups struct{ Data []map[string]json.RawMessage }
	if err := json.Unmarshal(get(t, url+"/api/v1/metrics"), &groups); err != nil {
		t.Fatal(err)
	}
	if len(groups.Data) != len(repositories) {
		t.Errorf("%d groups", len(groups.Data))
	}
}
