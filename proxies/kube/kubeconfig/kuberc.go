package kubeconfig

import (
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"berth/internal/atomicfile"
)

// leading are the flags of kubectl that choose a cluster, or who to be there.
var leading = []string{
	"as", "as-group", "as-uid", "as-user-extra", "certificate-authority", "client-certificate", "client-key", "cluster", "context",
	"insecure-skip-tls-verify", "kubeconfig", "password", "server", "tls-server-name", "token", "user", "username",
}

// rc is what kubectl's file of preferences says of flags.
type rc struct {
	Defaults []rcCommand `yaml:"defaults"`
	Aliases  []rcCommand `yaml:"aliases"`
	Old      []rcCommand `yaml:"overrides"` // of the first version
}

type rcCommand struct {
	Options []rcFlag `yaml:"options"`
	Flags   []rcFlag `yaml:"flags"` // of the first version
	Prepend []string `yaml:"prependArgs"`
	Append  []string `yaml:"appendArgs"`
}

type rcFlag struct {
	Name string `yaml:"name"`
}

// IsKubectl reports whether the program is kubectl, or one that colours its output.
func IsKubectl(program string) bool {
	return slices.Contains([]string{"kubectl", "kubecolor"}, programName(program))
}

// NamesKuberc reports whether kubectl's arguments name a file of preferences. With
// KUBERC=off kubectl refuses them.
func NamesKuberc(args []string) bool {
	return slices.ContainsFunc(args, func(a string) bool { return a == "--kuberc" || strings.HasPrefix(a, "--kuberc=") })
}

// Misleading returns kubectl's file of preferences if kubectl would be led elsewhere
// by it, and the flag by which; else "". KUBERC=off has kubectl pass the file over.
func Misleading(env func(string) string, home string) (file, flag string) {
	switch file = env("KUBERC"); {
	case file == "off" || env("KUBECTL_KUBERC") == "false":
		return "", ""
	case file == "":
		file = filepath.Join(home, ".kube", "kuberc")
	}
	data, _, err := atomicfile.Read(file)
	if err != nil {
		return "", "" // kubectl has none to read either
	}
	var prefs rc
	if yaml.Unmarshal(data, &prefs) != nil {
		return "", "" // kubectl says so
	}
	for _, c := range slices.Concat(prefs.Defaults, prefs.Aliases, prefs.Old) {
		for _, f := range slices.Concat(c.Options, c.Flags) {
			if slices.Contains(leading, f.Name) {
				return file, f.Name
			}
		}
		for _, arg := range slices.Concat(c.Prepend, c.Append) {
			name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
			if strings.HasPrefix(arg, "-s") && !strings.HasPrefix(arg, "--") { // -s is the server
				name = "server"
			}
			if strings.HasPrefix(arg, "-") && slices.Contains(leading, name) {
				return file, name
			}
		}
	}
	return "", ""
}
