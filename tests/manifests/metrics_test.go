// What a run leaves behind is read by Prometheus' own parser: the one of node_exporter and of the Pushgateway.
//
// CAREEN_BINARY names the program; without it this is skipped, with one line.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
)

func careen(t *testing.T) string {
	binary := os.Getenv("CAREEN_BINARY")
	if binary == "" {
		t.Skip("no careen: CAREEN_BINARY names it")
	}
	return binary
}

// run runs the program and returns its exit code and what it said.
func careenRun(t *testing.T, arguments ...string) (int, string) {
	t.Helper()
	command := exec.Command(careen(t), arguments...)
	command.Env = append(os.Environ(), "KOPIA_PASSWORD=static-passw0rd")
	said, err := command.CombinedOutput()
	if err != nil && command.ProcessState == nil {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), string(said)
}

func families(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	found, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return found
}

func value(t *testing.T, found map[string]*dto.MetricFamily, name string) float64 {
	t.Helper()
	family := found[name]
	if family == nil || len(family.Metric) == 0 {
		t.Fatalf("no %s", name)
	}
	return number(family.Metric[0])
}

func number(metric *dto.Metric) float64 {
	if metric.Counter != nil {
		return metric.Counter.GetValue()
	}
	return metric.Gauge.GetValue()
}

func labels(metric *dto.Metric) map[string]string {
	all := map[string]string{}
	for _, label := range metric.Label {
		all[label.GetName()] = label.GetValue()
	}
	return all
}

// dashboardNames returns the metrics that the dashboard asks for.
func dashboardNames(t *testing.T) []string {
	t.Helper()
	text := typed[corev1.ConfigMap](t, overlay(t, "dashboard")["ConfigMap/careen-dashboard"]).Data["careen.json"]
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, panel := range dashboard.Panels {
		if len(panel.Targets) == 0 {
			t.Errorf("%s shows nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			found := regexp.MustCompile(`careen_[a-z_]+`).FindAllString(target.Expr, -1)
			if len(found) == 0 {
				t.Errorf("%s: %s", panel.Title, target.Expr)
			}
			names = append(names, found...)
		}
	}
	return names
}

// Goal: a full cycle, a status and a failure are read back from a textfile; method: a repository
// with garbage.
func TestTextfileIsRead(t *testing.T) {
	folder := t.TempDir()
	repository := filepath.Join(folder, `odd "name\`)
	file := filepath.Join(folder, "careen.prom")
	made, said := careenRun(t, "demo", "--no-run", "--keep", repository,
		"--snapshots=4", "--directories=4", "--files=50", "--sessions=4")
	if made != 0 {
		t.Fatal(said)
	}
	textfile := "--metrics-textfile=" + file
	read := func() map[string]*dto.MetricFamily {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return families(t, string(text))
	}
	code, said := careenRun(t, "run", repository, "--mode=full", "--safety=none", textfile)
	if code != 0 {
		t.Fatal(said)
	}
	done := read()
	label := done["careen_exit_code"].Metric[0].Label[0]
	if label.GetName() != "repository" || label.GetValue() != repository {
		t.Errorf("%v is not %q", label, repository)
	}
	success := value(t, done, "careen_last_success_timestamp_seconds")
	if now := float64(time.Now().Unix()); success < now-600 || success > now+1 {
		t.Errorf("success at %v", success)
	}
	if value(t, done, "careen_reclaimed_bytes_total") < 1000 {
		t.Errorf("nothing was freed: %v", done)
	}
	for _, name := range []string{"careen_requests_total", "careen_downloaded_bytes_total"} {
		if done[name].GetType() != dto.MetricType_COUNTER {
			t.Errorf("%s is a %v", name, done[name].GetType())
		}
	}
	if len(done["careen_task_success"].Metric) < 4 {
		t.Errorf("tasks: %v", done["careen_task_success"])
	}

	if code, said := careenRun(t, "status", repository, textfile); code != 0 {
		t.Fatal(said)
	}
	status := read()
	if value(t, status, "careen_index_entries") < 10 || value(t, status, "careen_index_blobs") < 1 {
		t.Errorf("%v", status)
	}
	for _, name := range dashboardNames(t) {
		if done[name] == nil && status[name] == nil {
			t.Errorf("the dashboard shows %s, which neither a run nor a look tells", name)
		}
	}
	for _, found := range []map[string]*dto.MetricFamily{done, status} {
		if age := value(t, found, "careen_epoch_age_seconds"); age > 600 {
			t.Errorf("the epoch is %v s old", age)
		}
	}
	if value(t, done, "careen_plugin_memory_bytes") < 1 {
		t.Errorf("%v", done["careen_plugin_memory_bytes"])
	}
	for _, metric := range done["careen_plugin_fuel"].Metric {
		of := labels(metric)
		if of["plugin"] == "" || of["strategy"] == "" || metric.Gauge.GetValue() < 1 {
			t.Errorf("%v", metric)
		}
	}
	if value(t, status, "careen_last_full_cycle_timestamp_seconds") != value(t, done, "careen_last_full_cycle_timestamp_seconds") {
		t.Errorf("the time of the full cycle is lost")
	}

	code, _ = careenRun(t, "run", repository, "--memory=1MiB", textfile)
	failed := read()
	if code != 20 || value(t, failed, "careen_exit_code") != 20 {
		t.Errorf("exit code %d", code)
	}
	if value(t, failed, "careen_last_success_timestamp_seconds") <= success-1 {
		t.Errorf("the last success is lost")
	}
}

// Goal: a push is a POST to the repository's group, once; a gateway that fails, is slow or is not
// there changes no exit code.
func TestPushesArrive(t *testing.T) {
	folder := t.TempDir()
	repository := filepath.Join(folder, "repository")
	if code, said := careenRun(t, "demo", "--no-run", "--keep", repository, "--entries=1000", "--index-blobs=10"); code != 0 {
		t.Fatal(said)
	}
	var asked []*http.Request
	var body []byte
	answer := http.StatusOK
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r)
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(answer)
	}))
	defer gateway.Close()
	run := func(url string) string {
		code, said := careenRun(t, "run", repository, "--mode=quick", "--metrics-push="+url)
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, said)
		}
		return said
	}
	run(gateway.URL)
	if len(asked) != 1 || asked[0].Method != http.MethodPost {
		t.Fatalf("asked: %v", asked)
	}
	if !strings.HasPrefix(asked[0].URL.Path, "/metrics/job/careen/repository@base64/") {
		t.Errorf("path %s", asked[0].URL.Path)
	}
	format := expfmt.ResponseFormat(asked[0].Header)
	if format.FormatType() != expfmt.TypeTextPlain {
		t.Errorf("format %s", format)
	}
	decoder := expfmt.NewDecoder(bytes.NewReader(body), format)
	var first dto.MetricFamily
	if err := decoder.Decode(&first); err != nil {
		t.Fatal(err)
	}
	if value(t, families(t, string(body)), "careen_exit_code") != 0 {
		t.Errorf("%s", body)
	}
	run(gateway.URL + "/metrics/job/own/team/a")
	if asked[1].URL.Path != "/metrics/job/own/team/a" {
		t.Errorf("path %s", asked[1].URL.Path)
	}
	answer = http.StatusBadRequest
	if said := run(gateway.URL); !strings.Contains(said, "the metrics cannot be pushed") {
		t.Errorf("nothing is said: %s", said)
	}
	gateway.Close()
	if said := run(gateway.URL); !strings.Contains(said, "the metrics cannot be pushed") {
		t.Errorf("nothing is said: %s", said)
	}
}
