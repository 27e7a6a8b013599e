// Package kubeconfig writes kubeconfigs: berth's own, whole, and berth's
// entries in the user's, where it changes not one byte more.
//
// Kubernetes' own package for this is not linked: it would cost the agent 3 MB
// of memory that it never uses. Tests read with it what is written here.
package kubeconfig

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"berth/internal/atomicfile"
)

// prefix begins the name of every context, cluster and user of berth's.
const prefix = "berth-"

// Context is one way to one Kubernetes cluster.
type Context struct {
	// Name is the tunnel's; the context's has prefix before it.
	Name       string
	Server     string // URL
	ServerName string // for the TLS handshake; empty means the URL's host
	CA         []byte // PEM
	// ClientCert and ClientKey, in PEM, are a client's credential; or the
	// program of Exec prints one each time.
	ClientCert, ClientKey []byte
	Exec                  *Exec
}

// Exec is a program that prints a credential.
type Exec struct {
	Command string
	Args    []string
	Env     []string // NAME=value
}

// Path is where berth's own kubeconfig is, in its state folder.
func Path(stateDir string) string { return filepath.Join(stateDir, "kubeconfig") }

// Exists reports whether there is a file at path.
func Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ContextName is the name of the tunnel's context.
func ContextName(tunnel string) string { return prefix + tunnel }

// Marshal returns a kubeconfig of these contexts. The same contexts make the
// same bytes. No context is the current one.
func Marshal(contexts []Context) []byte {
	doc := mapping("apiVersion", scalar("v1"), "kind", scalar("Config"))
	add(doc, contexts)
	return encode(doc)
}

// Write replaces the file at path, unless its content is data already. Only
// its owner may read it.
func Write(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 == 0 {
			return nil
		}
	}
	return atomicfile.Write(path, data, 0o600)
}

// errNoContext says that a kubeconfig has no such context.
var errNoContext = errors.New("there is no such context")

// Select returns a kubeconfig of one tunnel's context, which is its current
// one, taken from data: for a program that is started for this tunnel alone.
func Select(data []byte, tunnel string) ([]byte, error) {
	doc, err := parse(data)
	if err != nil {
		return nil, err
	}
	name := ContextName(tunnel)
	context := entry(doc, "contexts", name)
	if context == nil {
		return nil, fmt.Errorf("%w: %s", errNoContext, name)
	}
	of := get(context, "context")
	out := mapping("apiVersion", scalar("v1"), "kind", scalar("Config"))
	for _, part := range []struct{ list, name string }{
		{"clusters", text(get(of, "cluster"))}, {"users", text(get(of, "user"))}, {"contexts", name},
	} {
		if e := entry(doc, part.list, part.name); e != nil {
			put(out, part.list, &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{e}})
		}
	}
	put(out, "current-context", scalar(name))
	return encode(out), nil
}

// Contexts returns the contexts of a kubeconfig that Marshal made, without
// those that ask a program.
func Contexts(data []byte) ([]Context, error) {
	doc, err := parse(data)
	if err != nil {
		return nil, err
	}
	var list []Context
	for _, name := range names(doc) {
		cluster, user := get(entry(doc, "clusters", name), "cluster"), get(entry(doc, "users", name), "user")
		c := Context{
			Name:   strings.TrimPrefix(name, prefix),
			Server: text(get(cluster, "server")), ServerName: text(get(cluster, "tls-server-name")),
		}
		for key, to := range map[*yaml.Node]*[]byte{
			get(cluster, "certificate-authority-data"): &c.CA,
			get(user, "client-certificate-data"):       &c.ClientCert,
			get(user, "client-key-data"):               &c.ClientKey,
		} {
			if *to, err = base64.StdEncoding.DecodeString(text(key)); err != nil {
				return nil, &BrokenError{fmt.Errorf("context %s: %w", name, err)}
			}
		}
		if get(user, "exec") == nil {
			list = append(list, c)
		}
	}
	return list, nil
}

// add puts the contexts, with their clusters and users, into doc, in place of
// what berth had there.
func add(doc *yaml.Node, contexts []Context) {
	for _, list := range []string{"clusters", "users", "contexts"} {
		seq := sequence(doc, list)
		for _, c := range contexts {
			node := mapping("name", scalar(ContextName(c.Name)), list[:len(list)-1], c.part(list))
			if i := index(seq, ContextName(c.Name)); i >= 0 {
				seq.Content[i] = node
			} else {
				seq.Content = append(seq.Content, node)
			}
		}
	}
}

// part returns the context's entry in one of the lists.
func (c Context) part(list string) *yaml.Node {
	name := ContextName(c.Name)
	switch list {
	case "clusters":
		n := mapping("server", scalar(c.Server))
		if c.ServerName != "" {
			put(n, "tls-server-name", scalar(c.ServerName))
		}
		put(n, "certificate-authority-data", binary(c.CA))
		return n
	case "users":
		if c.Exec == nil {
			return mapping("client-certificate-data", binary(c.ClientCert), "client-key-data", binary(c.ClientKey))
		}
		return mapping("exec", c.Exec.node())
	default:
		return mapping("cluster", scalar(name), "user", scalar(name))
	}
}

func (e *Exec) node() *yaml.Node {
	args := &yaml.Node{Kind: yaml.SequenceNode}
	for _, a := range e.Args {
		args.Content = append(args.Content, scalar(a))
	}
	n := mapping(
		"apiVersion", scalar("client.authentication.k8s.io/v1"),
		"command", scalar(e.Command),
		"args", args,
		"interactiveMode", scalar("Never"),
		"provideClusterInfo", &yaml.Node{Kind: yaml.ScalarNode, Value: "false"},
	)
	if len(e.Env) > 0 {
		env := &yaml.Node{Kind: yaml.SequenceNode}
		for _, kv := range e.Env {
			name, value, _ := bytes.Cut([]byte(kv), []byte("="))
			env.Content = append(env.Content, mapping("name", scalar(string(name)), "value", scalar(string(value))))
		}
		put(n, "env", env)
	}
	return n
}

// names are the names under which berth has put entries into doc: those with
// prefix whose cluster has a server name of berth's, or whose user is berth's
// program.
func names(doc *yaml.Node) []string {
	var found []string
	seq := get(doc, "contexts")
	if seq == nil {
		return nil
	}
	for _, e := range seq.Content {
		if name := text(get(e, "name")); isOurs(doc, name) {
			found = append(found, name)
		}
	}
	return found
}

func isOurs(doc *yaml.Node, name string) bool {
	if len(name) <= len(prefix) || !strings.HasPrefix(name, prefix) {
		return false
	}
	cluster := get(entry(doc, "clusters", name), "cluster")
	user := get(entry(doc, "users", name), "user")
	args := get(get(user, "exec"), "args")
	return serverNameOfOurs(text(get(cluster, "tls-server-name"))) ||
		args != nil && len(args.Content) > 1 && text(args.Content[0]) == "kube" && text(args.Content[1]) == "credentials"
}

func encode(doc *yaml.Node) []byte {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil { // nodes made here, or read before
		panic("kubeconfig: " + err.Error())
	}
	return b.Bytes()
}

func binary(data []byte) *yaml.Node { return scalar(base64.StdEncoding.EncodeToString(data)) }
