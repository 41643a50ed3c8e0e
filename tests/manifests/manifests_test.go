// The manifests are what they claim to be: both renderings the same, restricted, one memory limit, our exit codes.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	sigsyaml "sigs.k8s.io/yaml"
)

type objects map[string]*unstructured.Unstructured

func parsed(t *testing.T, text []byte, err error) objects {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	all, err := Objects(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	named := objects{}
	for _, object := range all {
		name := object.GetKind() + "/" + object.GetName()
		if named[name] != nil {
			t.Fatalf("%s is there twice", name)
		}
		if object.GetNamespace() != "velero" {
			t.Errorf("%s is in namespace %q", name, object.GetNamespace())
		}
		strict(t, object)
		named[name] = object
	}
	return named
}

// overlay builds the base with components.
func overlay(t *testing.T, components ...string) objects {
	t.Helper()
	deploy := Deploy()
	folder := t.TempDir()
	link := filepath.Join(folder, "deploy")
	if err := os.CopyFS(link, os.DirFS(deploy)); err != nil {
		t.Fatal(err)
	}
	text := "resources: [../deploy/base]\n"
	if len(components) > 0 {
		text += "components:\n"
	}
	for _, component := range components {
		text += "  - ../deploy/components/" + component + "\n"
	}
	own := filepath.Join(folder, "overlay")
	if err := os.Mkdir(own, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(own, "kustomization.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	rendered, err := Kustomize(own)
	return parsed(t, rendered, err)
}

func chart(t *testing.T, values string) objects {
	t.Helper()
	var given map[string]any
	if err := sigsyaml.Unmarshal([]byte(values), &given); err != nil {
		t.Fatal(err)
	}
	text, err := Helm(given)
	return parsed(t, text, err)
}

// strict refuses fields that Kubernetes does not know.
func strict(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	kinds := map[string]any{
		"CronJob":        &batchv1.CronJob{},
		"Job":            &batchv1.Job{},
		"ConfigMap":      &corev1.ConfigMap{},
		"ServiceAccount": &corev1.ServiceAccount{},
		"NetworkPolicy":  &networkingv1.NetworkPolicy{},
		"Role":           &rbacv1.Role{},
		"RoleBinding":    &rbacv1.RoleBinding{},
	}
	typed := kinds[object.GetKind()]
	if typed == nil {
		if object.GetKind() != "PrometheusRule" {
			t.Errorf("nobody expects a %s", object.GetKind())
		}
		return
	}
	text, err := json.Marshal(object.Object)
	if err != nil {
		t.Fatal(err)
	}
	if err := sigsyaml.UnmarshalStrict(text, typed); err != nil {
		t.Errorf("%s/%s: %v", object.GetKind(), object.GetName(), err)
	}
}

func typed[T any](t *testing.T, object *unstructured.Unstructured) *T {
	t.Helper()
	if object == nil {
		t.Fatal("the object is missing")
	}
	text, err := json.Marshal(object.Object)
	if err != nil {
		t.Fatal(err)
	}
	value := new(T)
	if err := json.Unmarshal(text, value); err != nil {
		t.Fatal(err)
	}
	return value
}

func cronJob(t *testing.T, all objects) *batchv1.CronJob {
	return typed[batchv1.CronJob](t, all["CronJob/careen"])
}

// all renders everything that can be rendered.
func all(t *testing.T) map[string]objects {
	components := []string{"alerts", "ca", "dashboard", "emptydir-scratch", "metrics-push", "plugins", "velero", "workload-identity"}
	renderings := map[string]objects{
		"base":       overlay(t),
		"components": overlay(t, components...),
		"helm":       chart(t, ""),
		"helm, full": chart(t, full),
		"openshift":  chart(t, "{openshift: true}"),
	}
	once, err := Kustomize(filepath.Join(Deploy(), "once"))
	renderings["once"] = parsed(t, once, err)
	for _, component := range components {
		renderings[component] = overlay(t, component)
	}
	return renderings
}

const full = `
image: {digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}
imagePullSecrets: [{name: pull}]
repository: az://container/prefix/
settings: {AZURE_STORAGE_ACCOUNT: account}
ca: {configMap: careen-ca}
extraArgs: [--max-download=10GiB]
memory: 128Mi
scratch: {type: emptyDir, size: 20Gi, quota: 18GiB}
strategies: |
  [splitting]
  plugin = "/plugin-files/price.wasm"
  blake3 = "00"
plugins:
  volume: {image: {reference: "registry.example/plugins@sha256:01", pullPolicy: IfNotPresent}}
  compile: [price.wasm]
metrics: {push: "http://push:9091"}
alerts: {enabled: true}
dashboard: {enabled: true}
networkPolicy: {ports: [443, 9091]}
velero: {enabled: true}
once: {enabled: true}
podLabels: {velero.io/repo-name: ns-default-kopia}
podAnnotations: {a: b}
nodeSelector: {kubernetes.io/arch: amd64}
tolerations: [{operator: Exists}]
priorityClassName: low
serviceAccount: {annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::1:role/careen"}}
`

func podSpecs(t *testing.T, all objects) map[string]corev1.PodTemplateSpec {
	templates := map[string]corev1.PodTemplateSpec{}
	for name, object := range all {
		switch object.GetKind() {
		case "CronJob":
			templates[name] = typed[batchv1.CronJob](t, object).Spec.JobTemplate.Spec.Template
		case "Job":
			templates[name] = typed[batchv1.Job](t, object).Spec.Template
		}
	}
	return templates
}

// Goal: the chart with its own values is the base; method: all objects, without Helm's own labels.
func TestBothRenderingsAreTheSame(t *testing.T) {
	base, helm := overlay(t), chart(t, "")
	for name, object := range base {
		other := helm[name]
		if other == nil {
			t.Errorf("the chart has no %s", name)
			continue
		}
		clean(object.Object)
		clean(other.Object)
		if !reflect.DeepEqual(object.Object, other.Object) {
			one, _ := sigsyaml.Marshal(object.Object)
			two, _ := sigsyaml.Marshal(other.Object)
			t.Errorf("%s differs:\n%s\n%s", name, one, two)
		}
	}
	for name := range helm {
		if base[name] == nil {
			t.Errorf("the base has no %s", name)
		}
	}
}

// Goal: the optional parts are the same too.
func TestOptionalPartsAreTheSame(t *testing.T) {
	for component, values := range map[string]string{
		"alerts":           "{alerts: {enabled: true}}",
		"dashboard":        "{dashboard: {enabled: true}}",
		"ca":               "{ca: {configMap: careen-ca}}",
		"velero":           "{velero: {enabled: true}}",
		"emptydir-scratch": "{scratch: {type: emptyDir}}",
		// Nobody's keys.
		"workload-identity": "{credentials: {secret: \"\"}}",
	} {
		base, helm := overlay(t, component), chart(t, values)
		for name, object := range base {
			clean(object.Object)
			if helm[name] == nil {
				t.Errorf("%s: the chart has no %s", component, name)
				continue
			}
			clean(helm[name].Object)
			if !reflect.DeepEqual(object.Object, helm[name].Object) {
				one, _ := sigsyaml.Marshal(object.Object)
				two, _ := sigsyaml.Marshal(helm[name].Object)
				t.Errorf("%s: %s differs:\n%s\n%s", component, name, one, two)
			}
		}
	}
	once, err := Kustomize(filepath.Join(Deploy(), "once"))
	job := parsed(t, once, err)["Job/careen-once"]
	other := chart(t, "{once: {enabled: true}}")["Job/careen-once"]
	clean(job.Object)
	clean(other.Object)
	if !reflect.DeepEqual(job.Object["spec"], other.Object["spec"]) {
		t.Errorf("the single Job differs")
	}
}

// clean takes away what only Helm writes, and labels of metadata that nobody selects by.
func clean(value any) {
	switch value := value.(type) {
	case map[string]any:
		if labels, ok := value["labels"].(map[string]any); ok {
			delete(labels, "helm.sh/chart")
			delete(labels, "app.kubernetes.io/managed-by")
		}
		for _, inner := range value {
			clean(inner)
		}
	case []any:
		for _, inner := range value {
			clean(inner)
		}
	}
}

// Goal: Pod Security "restricted" lets every pod in; method: the API server's own check.
func TestPodsAreRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for rendering, objects := range all(t) {
		for name, template := range podSpecs(t, objects) {
			for _, result := range evaluator.EvaluatePod(restricted, &template.ObjectMeta, &template.Spec) {
				if !result.Allowed {
					t.Errorf("%s, %s: %s: %s", rendering, name, result.ForbiddenReason, result.ForbiddenDetail)
				}
			}
		}
	}
}

// Goal: requests are limits, and the run is told its own; nothing but volumes can be written.
func TestContainersKeepTheirLimit(t *testing.T) {
	for rendering, objects := range all(t) {
		for name, template := range podSpecs(t, objects) {
			where := rendering + ", " + name
			spec := template.Spec
			if spec.RestartPolicy != corev1.RestartPolicyNever {
				t.Errorf("%s: podFailurePolicy wants restartPolicy Never", where)
			}
			for _, container := range append(spec.InitContainers, spec.Containers...) {
				if !reflect.DeepEqual(container.Resources.Requests, container.Resources.Limits) {
					t.Errorf("%s: requests are not limits", where)
				}
				if container.Resources.Limits.Memory().IsZero() {
					t.Errorf("%s: no memory limit", where)
				}
				memory := container.Env[0]
				reference := memory.ValueFrom.ResourceFieldRef
				if memory.Name != "CAREEN_MEMORY" || reference.ContainerName != container.Name ||
					reference.Resource != "limits.memory" {
					t.Errorf("%s: %s is not told its limit", where, container.Name)
				}
				security := container.SecurityContext
				if security.ReadOnlyRootFilesystem == nil || !*security.ReadOnlyRootFilesystem {
					t.Errorf("%s: the root can be written", where)
				}
				if container.TerminationMessagePolicy != corev1.TerminationMessageReadFile {
					t.Errorf("%s: another termination message", where)
				}
				for _, mount := range container.VolumeMounts {
					if !mount.ReadOnly && mount.Name != "scratch" {
						t.Errorf("%s: %s can be written", where, mount.Name)
					}
				}
				for _, argument := range container.Args {
					if strings.Contains(strings.ToLower(argument), "secret_") {
						t.Errorf("%s: a secret in the arguments", where)
					}
				}
			}
			for _, volume := range spec.Volumes {
				if volume.EmptyDir != nil && volume.EmptyDir.Medium != "" {
					t.Errorf("%s: scratch in memory", where)
				}
			}
		}
	}
}

// Goal: every exit code of the README is in the policy, or is 0, for every container, and for none that is not there;
// method: the README's table.
func TestExitCodesHaveAPolicy(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(Deploy(), "../../README.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[int32]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| `).FindAllStringSubmatch(string(readme), -1) {
		var code int32
		fmt.Sscan(row[1], &code)
		if code != 0 {
			documented[code] = true
		}
	}
	if len(documented) != 6 {
		t.Fatalf("the README's codes: %v", documented)
	}
	for _, objects := range []objects{overlay(t), overlay(t, "plugins"), chart(t, ""), chart(t, full)} {
		job := cronJob(t, objects).Spec.JobTemplate.Spec
		told := map[string]map[int32]batchv1.PodFailurePolicyAction{}
		pod := job.Template.Spec
		for _, container := range append(pod.InitContainers, pod.Containers...) {
			told[container.Name] = map[int32]batchv1.PodFailurePolicyAction{}
		}
		for _, rule := range job.PodFailurePolicy.Rules {
			if rule.OnExitCodes == nil {
				if rule.Action != batchv1.PodFailurePolicyActionIgnore {
					t.Errorf("an eviction is not ignored")
				}
				continue
			}
			codes := told[*rule.OnExitCodes.ContainerName]
			if codes == nil {
				t.Fatalf("there is no container %s", *rule.OnExitCodes.ContainerName)
			}
			for _, code := range rule.OnExitCodes.Values {
				codes[code] = rule.Action
			}
		}
		for container, codes := range told {
			for code := range documented {
				want := batchv1.PodFailurePolicyActionFailJob
				// The compiler ends with neither; what has no rule is counted.
				if code == 10 || code == 30 {
					want = batchv1.PodFailurePolicyActionCount
				}
				found := codes[code]
				if found == "" && container != "careen" {
					found = batchv1.PodFailurePolicyActionCount
				}
				if found != want {
					t.Errorf("%s, exit code %d: %s", container, code, found)
				}
			}
		}
	}
}

func TestCronJobsDoNotPileUp(t *testing.T) {
	for _, objects := range []objects{overlay(t), chart(t, "{schedule: M * * * *}")} {
		spec := cronJob(t, objects).Spec
		if spec.ConcurrencyPolicy != batchv1.ForbidConcurrent || *spec.StartingDeadlineSeconds < 1 {
			t.Errorf("two at a time, or started for ever")
		}
		job := spec.JobTemplate.Spec
		if *job.ActiveDeadlineSeconds < 3600 || *job.TTLSecondsAfterFinished < 3600 || *job.BackoffLimit > 6 {
			t.Errorf("deadlines: %v", job)
		}
		if !regexp.MustCompile(`^[0-9]{1,2} \* \* \* \*$`).MatchString(spec.Schedule) || *spec.TimeZone == "" {
			t.Errorf("schedule %q", spec.Schedule)
		}
	}
}

// Goal: runs of a schedule wait their own time, single Jobs do not, and the value can be changed.
func TestRunsOfAScheduleWaitTheirOwnTime(t *testing.T) {
	once, err := Kustomize(filepath.Join(Deploy(), "once"))
	for where, wanted := range map[string]struct {
		objects objects
		setting string
		jobs    map[string]string
	}{
		"base":        {overlay(t), "5m", map[string]string{"CronJob/careen": ""}},
		"once":        {parsed(t, once, err), "", map[string]string{"Job/careen-once": "0"}},
		"helm, full":  {chart(t, full), "5m", map[string]string{"CronJob/careen": "", "Job/careen-once": "0"}},
		"helm, short": {chart(t, "{jitter: 0}"), "0", map[string]string{"CronJob/careen": ""}},
	} {
		if settings := wanted.objects["ConfigMap/careen"]; settings != nil {
			if found := typed[corev1.ConfigMap](t, settings).Data["CAREEN_JITTER"]; found != wanted.setting {
				t.Errorf("%s: %q", where, found)
			}
		} else if wanted.setting != "" {
			t.Errorf("%s: no settings", where)
		}
		found := map[string]string{}
		for name, template := range podSpecs(t, wanted.objects) {
			found[name] = ""
			for _, variable := range template.Spec.Containers[0].Env {
				if variable.Name == "CAREEN_JITTER" {
					found[name] = variable.Value
				}
			}
		}
		if !reflect.DeepEqual(found, wanted.jobs) {
			t.Errorf("%s: %v", where, found)
		}
	}
}

// Goal: the chosen minute differs by release, and stays.
func TestTheMinuteIsNotEverybodys(t *testing.T) {
	one := cronJob(t, chart(t, "{schedule: M * * * *}")).Spec.Schedule
	two := cronJob(t, chart(t, "{schedule: M * * * *}")).Spec.Schedule
	if one != two || strings.Contains(one, "M") {
		t.Errorf("%q, %q", one, two)
	}
}

func TestEverythingThatIsMountedIsThere(t *testing.T) {
	// What a user makes.
	given := map[string]bool{"careen-ca": true, "careen-plugins": true}
	for rendering, objects := range all(t) {
		for name, template := range podSpecs(t, objects) {
			volumes := map[string]bool{}
			for _, volume := range template.Spec.Volumes {
				volumes[volume.Name] = true
				if claim := volume.ConfigMap; claim != nil && !given[claim.Name] && rendering != "once" {
					if objects["ConfigMap/"+claim.Name] == nil {
						t.Errorf("%s, %s: no ConfigMap %s", rendering, name, claim.Name)
					}
				}
			}
			for _, container := range append(template.Spec.InitContainers, template.Spec.Containers...) {
				for _, mount := range container.VolumeMounts {
					if !volumes[mount.Name] {
						t.Errorf("%s, %s: no volume %s", rendering, name, mount.Name)
					}
				}
			}
		}
	}
}
