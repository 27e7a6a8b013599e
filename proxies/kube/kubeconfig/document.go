// Package kubeconfig writes kubeconfigs: berth's entries in its own and in the
// user's, where it changes not one byte more. What other programs add to an
// entry of berth's stays.
//
// Kubernetes' own package for this is not linked: it would cost the agent 3 MB
// of memory that it never uses. Tests read with it what is written here.
package kubeconfig

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"berth/internal/atomicfile"
	"berth/internal/plain"
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

	// cluster and context are entries to begin new ones with: what others added
	// to them comes along. nil means none.
	cluster, context *yaml.Node
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
func ContextName(tunnel string) string { return prefix + plain.ASCII(tunnel) }

// Marshal returns a kubeconfig of these contexts. The same contexts make the
// same bytes. No context is the current one.
func Marshal(contexts []Context) []byte {
	doc := mapping("apiVersion", scalar("v1"), "kind", scalar("Config"))
	add(doc, contexts)
	return encode(doc)
}

// Write replaces the file at path, unless data is what it says already. Only
// its owner may read it.
func Write(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		if info, err := os.Stat(path); err == nil && !Exposed(info) {
			return nil
		}
	}
	return atomicfile.Write(path, data, 0o600)
}

// Exposed reports whether users other than a file's owner may read or change it.
// Windows keeps that elsewhere.
func Exposed(info fs.FileInfo) bool {
	return runtime.GOOS != "windows" && info.Mode().Perm()&0o066 != 0
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
	contexts := contextsOf(doc, name)
	if len(contexts) == 0 {
		return nil, fmt.Errorf("%w: %s", errNoContext, name)
	}
	current := usual(doc, contexts, name)
	out := mapping("apiVersion", scalar("v1"), "kind", scalar("Config"))
	for _, part := range []struct{ list, name string }{
		{"clusters", name}, {"users", text(get(get(current, "context"), "user"))},
	} {
		if e := entry(doc, part.list, part.name); e != nil {
			put(out, part.list, &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{e}})
		}
	}
	put(out, "contexts", &yaml.Node{Kind: yaml.SequenceNode, Content: contexts})
	put(out, "current-context", scalar(text(get(current, "name"))))
	return encode(out), nil
}

// usual returns the entry of a cluster's contexts that a client is to use: the
// current one, else the one that berth made, else any.
func usual(doc *yaml.Node, contexts []*yaml.Node, name string) *yaml.Node {
	current := text(get(doc, "current-context"))
	if i := slices.IndexFunc(contexts, func(e *yaml.Node) bool { return text(get(e, "name")) == current }); i >= 0 {
		return contexts[i]
	}
	return cmp.Or(ownContext(doc, name), contexts[0])
}

// mark is the name of the extension by which berth knows a context that it made
// when others have given it another name. Contexts of the user's own may lead to
// the same cluster.
const mark = "berth"

// isOwn reports whether berth made the entry of a context for a cluster of that
// name.
func isOwn(e *yaml.Node, cluster string) bool {
	context := get(e, "context")
	if text(get(context, "cluster")) != cluster {
		return false
	}
	if text(get(e, "name")) == cluster {
		return true
	}
	marks := get(context, "extensions")
	if marks == nil || marks.Kind != yaml.SequenceNode {
		return false
	}
	i := index(marks, mark)
	return i >= 0 && ContextName(text(get(get(marks.Content[i], "extension"), "tunnel"))) == cluster
}

// ownContext returns the entry of the context that berth made for a cluster of that
// name; nil when it was deleted.
func ownContext(doc *yaml.Node, cluster string) *yaml.Node {
	contexts := contextsOf(doc, cluster)
	if i := slices.IndexFunc(contexts, func(e *yaml.Node) bool { return isOwn(e, cluster) }); i >= 0 {
		return contexts[i]
	}
	return nil
}

// setMark marks a context as made by berth.
func setMark(context *yaml.Node, tunnel string) {
	extension := mapping("tunnel", scalar(tunnel))
	marks := sequence(context, "extensions")
	if i := index(marks, mark); i >= 0 {
		put(marks.Content[i], "extension", extension)
		return
	}
	marks.Content = append(marks.Content, mapping("name", scalar(mark), "extension", extension))
}

// ContextIn returns the name of the tunnel's context in berth's own kubeconfig at
// path, where other programs may have given it another.
func ContextIn(path, tunnel string) string {
	name := ContextName(tunnel)
	data, err := os.ReadFile(path)
	if err != nil {
		return name // it is written with the first tunnel
	}
	doc, err := parse(data)
	if err != nil {
		return name
	}
	if contexts := contextsOf(doc, name); len(contexts) > 0 {
		return text(get(usual(doc, contexts, name), "name"))
	}
	return name
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
			Name:   plain.FromASCII(strings.TrimPrefix(name, prefix)),
			Server: text(get(cluster, "server")), ServerName: text(get(cluster, "tls-server-name")),
			cluster: cluster,
		}
		c.context = get(ownContext(doc, name), "context")
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

// add puts the contexts, with their clusters and users, into doc. Of entries that
// are there it sets what is berth's, and keeps what others added: a namespace, a
// proxy, extensions, another name of a context.
func add(doc *yaml.Node, contexts []Context) {
	clusters, users, list := sequence(doc, "clusters"), sequence(doc, "users"), sequence(doc, "contexts")
	for _, c := range contexts {
		name := ContextName(c.Name)
		c.setCluster(part(clusters, name, "cluster", c.cluster))
		c.setUser(part(users, name, "user", nil))
		context := get(ownContext(doc, name), "context")
		if context == nil {
			context = part(list, name, "context", c.context)
			put(context, "cluster", scalar(name))
			put(context, "user", scalar(name))
		}
		setMark(context, c.Name)
	}
}

// part returns what the entry of that name has under key. An entry that is not
// there is made, as a copy of like.
func part(seq *yaml.Node, name, key string, like *yaml.Node) *yaml.Node {
	if i := index(seq, name); i >= 0 {
		if n := get(seq.Content[i], key); n != nil && n.Kind == yaml.MappingNode {
			return n
		}
		n := mapping()
		put(seq.Content[i], key, n)
		return n
	}
	n := mapping()
	if like != nil {
		n.Content = slices.Clone(like.Content)
	}
	seq.Content = append(seq.Content, mapping("name", scalar(name), key, n))
	return n
}

// clusterKeys are the keys of a cluster that are berth's.
var clusterKeys = []string{
	"server", "tls-server-name", "certificate-authority-data", "certificate-authority", "insecure-skip-tls-verify",
}

func (c Context) setCluster(n *yaml.Node) {
	drop(n, "certificate-authority", "insecure-skip-tls-verify") // kubectl refuses one of them beside berth's CA
	put(n, "server", scalar(c.Server))
	if c.ServerName != "" {
		put(n, "tls-server-name", scalar(c.ServerName))
	} else {
		drop(n, "tls-server-name")
	}
	put(n, "certificate-authority-data", binary(c.CA))
}

func (c Context) setUser(n *yaml.Node) {
	if c.Exec != nil {
		drop(n, "client-certificate-data", "client-key-data")
		put(n, "exec", c.Exec.node())
		return
	}
	drop(n, "client-certificate", "client-key", "exec")
	put(n, "client-certificate-data", binary(c.ClientCert))
	put(n, "client-key-data", binary(c.ClientKey))
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

// names are the names under which berth has put clusters and users into doc:
// those with prefix that have a server name of berth's, or berth's program.
func names(doc *yaml.Node) []string {
	var found []string
	for _, list := range []string{"clusters", "users"} {
		seq := get(doc, list)
		if seq == nil {
			continue
		}
		for _, e := range seq.Content {
			if name := text(get(e, "name")); isOurs(doc, name) && !slices.Contains(found, name) {
				found = append(found, name)
			}
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

// contextsOf returns the entries of the contexts that lead to a cluster, whatever
// they are called.
func contextsOf(doc *yaml.Node, cluster string) []*yaml.Node {
	var found []*yaml.Node
	if seq := get(doc, "contexts"); seq != nil {
		for _, e := range seq.Content {
			if text(get(get(e, "context"), "cluster")) == cluster {
				found = append(found, e)
			}
		}
	}
	return found
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
