package kubeconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMisleading: a file of preferences misleads by the flags that choose a
// cluster, wherever they stand in it.
func TestMisleading(t *testing.T) {
	for name, tt := range map[string]struct{ text, env, want string }{
		"defaults":   {"defaults: [{command: get, options: [{name: output, default: yaml}, {name: context, default: prod}]}]", "", "context"},
		"first_form": {"overrides: [{command: get, flags: [{name: kubeconfig, default: x}]}]", "", "kubeconfig"},
		"alias":      {"aliases: [{name: g, command: get, appendArgs: [pods, --server=https://x]}]", "", "server"},
		"short":      {"aliases: [{name: g, command: get, prependArgs: [-s, https://x]}]", "", "server"},
		"harmless":   {"defaults: [{command: delete, options: [{name: interactive, default: 'true'}]}]", "", ""},
		"off":        {"defaults: [{command: get, options: [{name: context, default: prod}]}]", "off", ""},
		"broken":     {"{", "", ""},
		"none":       {"", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			file := filepath.Join(home, ".kube", "kuberc")
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if tt.text != "" {
				if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			env := func(name string) string { return map[string]string{"KUBERC": tt.env}[name] }
			got, flag := Misleading(env, home)
			if flag != tt.want || (got == "") != (flag == "") {
				t.Errorf("Misleading = %q, %q; want %q", got, flag, tt.want)
			}
		})
	}
}

func TestNamesKuberc(t *testing.T) {
	for args, want := range map[string]bool{"get pods": false, "--kuberc=x get pods": true, "get --kuberc x": true, "--kubeconfig=x": false} {
		if got := NamesKuberc(strings.Fields(args)); got != want {
			t.Errorf("NamesKuberc(%q) = %v", args, got)
		}
	}
	for program, want := range map[string]bool{"/usr/bin/kubectl": true, "kubectl.exe": true, "env": false, "helm": false} {
		if got := IsKubectl(program); got != want {
			t.Errorf("IsKubectl(%q) = %v", program, got)
		}
	}
}
