// Renders the manifests of runtime/deploy by kustomize's and Helm's own code.
//
// Command line: go run . [json] kustomize FOLDER | go run . [json] helm [VALUES.yaml]. A FOLDER is below runtime/deploy
// or absolute. Prints YAML, or one JSON array, for the suite that applies what is rendered (tests/kit/manifests.rs).
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	sigsyaml "sigs.k8s.io/yaml"
)

// Deploy returns the folder runtime/deploy. The working directory is this folder: a built program is kept, and used for
// other copies of the project.
func Deploy() string {
	folder, err := filepath.Abs("../../runtime/deploy")
	if err != nil {
		panic(err)
	}
	return folder
}

// Kustomize builds a folder as `kubectl apply -k` would.
func Kustomize(folder string) ([]byte, error) {
	options := krusty.MakeDefaultOptions()
	built, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return nil, err
	}
	return built.AsYaml()
}

// Helm renders the chart as `helm template careen --namespace velero` would.
func Helm(values map[string]any) ([]byte, error) {
	chart, err := loader.Load(filepath.Join(Deploy(), "chart"))
	if err != nil {
		return nil, err
	}
	release := chartutil.ReleaseOptions{Name: "careen", Namespace: "velero", IsInstall: true, Revision: 1}
	all, err := chartutil.ToRenderValues(chart, values, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := (engine.Engine{Strict: true}).Render(chart, all)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	var text bytes.Buffer
	for _, name := range names {
		if strings.HasSuffix(name, ".yaml") && strings.TrimSpace(files[name]) != "" {
			fmt.Fprintf(&text, "---\n%s\n", files[name])
		}
	}
	return text.Bytes(), nil
}

// Objects parses rendered text.
func Objects(text []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := documents.Decode(&object.Object)
		if err == io.EOF {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

func run(arguments []string) ([]byte, error) {
	switch {
	case len(arguments) > 1 && arguments[0] == "json":
		return inJSON(run(arguments[1:]))
	case len(arguments) == 2 && arguments[0] == "kustomize":
		folder := arguments[1]
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(Deploy(), folder)
		}
		return Kustomize(folder)
	case len(arguments) == 1 && arguments[0] == "helm":
		return Helm(nil)
	case len(arguments) == 2 && arguments[0] == "helm":
		text, err := os.ReadFile(arguments[1])
		if err != nil {
			return nil, err
		}
		var values map[string]any
		if err := sigsyaml.Unmarshal(text, &values); err != nil {
			return nil, err
		}
		return Helm(values)
	}
	return nil, fmt.Errorf("go run . [json] kustomize FOLDER | go run . [json] helm [VALUES.yaml]")
}

func inJSON(text []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	objects, err := Objects(text)
	if err != nil {
		return nil, err
	}
	return json.Marshal(objects)
}

func main() {
	text, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout.Write(text)
}
