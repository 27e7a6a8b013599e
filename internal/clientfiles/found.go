package clientfiles

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"berth/agent/state"
	"berth/certwatch"
)

// A Found is something another program knows of that a tunnel could lead to.
// What the program does not say is empty.
type Found struct {
	From     string // the entry's name in that program
	Kind     state.Kind
	Proxy    string // its host, where the program names no cluster
	Cluster  string // Teleport's
	Resource string
	Protocol string
	DBUser   string
	DBName   string
	Port     int // on this machine, where clients expect it; zero means none
}

// A Source is a program whose files can be read for tunnels.
type Source struct {
	Name  string // of the command's argument
	Title string // for people
	// Default returns the file or folder that the program uses.
	Default func(Places) (string, error)
	// Read returns what is in it, in its order.
	Read func(path string) ([]Found, error)
}

// Sources are the programs, in the order in which they are listed.
var Sources = []Source{
	{
		Name: "dbeaver", Title: "DBeaver's connections to ports of this machine, or with a certificate of tsh's",
		Default: dbeaverPath, Read: contentOf(findDBeaver),
	},
	{
		Name: "pgservice", Title: "libpq's service file, as tsh writes it too",
		Default: pgServicePath, Read: contentOf(findPGService),
	},
	{
		Name: "tsh", Title: "the databases and Kubernetes clusters that tsh has logged in to",
		Default: func(Places) (string, error) { return certwatch.DefaultHome() }, Read: findTSH,
	},
	{
		Name: "connect", Title: "the tabs of Teleport Connect",
		Default: func(p Places) (string, error) {
			return filepath.Join(p.Config, "Teleport Connect", "app_state.json"), nil
		},
		Read: contentOf(findConnect),
	},
}

// LookupSource returns the source of that name.
func LookupSource(name string) (Source, bool) {
	i := slices.IndexFunc(Sources, func(s Source) bool { return s.Name == name })
	if i < 0 {
		return Source{}, false
	}
	return Sources[i], true
}

// contentOf reads a file for a finder.
func contentOf(find func([]byte) ([]Found, error)) func(string) ([]Found, error) {
	return func(path string) ([]Found, error) {
		c, err := File{Path: path}.read()
		if err != nil {
			return nil, err
		}
		if !c.there {
			return nil, fmt.Errorf("there is no %s", path)
		}
		list, err := find(c.Before)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		return list, nil
	}
}

// protocolOf is Teleport's name of what DBeaver's providers speak.
var protocolOf = map[string]string{
	"postgresql": "postgres", "mysql": "mysql", "sqlserver": "sqlserver", "mongodb": "mongodb", "redis": "redis",
	"clickhouse": "clickhouse", "cassandra": "cassandra", "oracle": "oracle",
}

// findDBeaver reads the connections that lead to this machine, or that show a
// certificate of tsh's. berth's own are left out.
func findDBeaver(data []byte) ([]Found, error) {
	d, connections, err := dbeaver{}.parse(data)
	if err != nil || connections == nil {
		return nil, err
	}
	var list []Found
	for _, it := range itemsOf(connections) {
		cfg := member(it.value, "configuration")
		if cfg == nil || strings.HasPrefix(it.name, dbeaverPrefix) {
			continue
		}
		f := Found{
			From: cmp.Or(textOf(it.value, "name"), it.name), Kind: state.KindDB, Protocol: protocolOf[textOf(it.value, "provider")],
			DBUser: textOf(cfg, "user"), DBName: textOf(cfg, "database"),
		}
		host, port := textOf(cfg, "host"), textOf(cfg, "port")
		if u, err := url.Parse(strings.TrimPrefix(textOf(cfg, "url"), "jdbc:")); err == nil && host == "" {
			host, port = u.Hostname(), u.Port()
		}
		local := f.local(host, port)
		if f.certOf(string(d.text[it.start:it.end])) || local {
			list = append(list, f)
		}
	}
	return list, nil
}

// findPGService reads the services that lead to this machine, or that show a
// certificate of tsh's, as "tsh db login" writes them.
func findPGService(data []byte) ([]Found, error) {
	s, err := pgService.parse(data)
	if err != nil {
		return nil, err
	}
	var list []Found
	values, name := map[string]string{}, ""
	end := func() {
		f := Found{From: name, Kind: state.KindDB, Protocol: "postgres", DBUser: values["user"], DBName: values["dbname"]}
		local := f.local(cmp.Or(values["hostaddr"], values["host"]), cmp.Or(values["port"], "5432"))
		if name != "" && (f.certOf(values["sslcert"]) || local) {
			list = append(list, f)
		}
		values, name = map[string]string{}, ""
	}
	for i, line := range s.lines {
		text := strings.TrimSpace(line)
		switch key, value, ok := strings.Cut(text, "="); {
		case slices.ContainsFunc(s.blocks, func(b block) bool { return b.from <= i && i < b.to }): // berth's own
			end()
		case strings.HasPrefix(text, "["):
			end()
			name = text[1:strings.IndexByte(text, ']')]
		case ok && !strings.HasPrefix(text, "#"):
			values[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	end()
	return list, nil
}

// local takes the port over if the host is this machine.
func (f *Found) local(host, port string) bool {
	ip := net.ParseIP(strings.Trim(host, "[]"))
	if host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return false
	}
	f.Port = int(n)
	return true
}

// certOf takes cluster and resource from the path of a database cert of tsh's
// within text: …/keys/PROXY/USER-db/CLUSTER/NAME-x509.pem, or NAME.crt.
func (f *Found) certOf(text string) bool {
	_, rest, ok := strings.Cut(filepath.ToSlash(strings.ReplaceAll(text, `\\`, "/")), "/keys/")
	if !ok {
		return false
	}
	parts := strings.SplitN(rest, "/", 4)
	if len(parts) < 4 || !strings.HasSuffix(parts[1], "-db") {
		return false
	}
	for _, suffix := range []string{"-x509.pem", ".crt", ".key"} {
		if name, _, ok := strings.Cut(parts[3], suffix); ok && name != "" && !strings.ContainsAny(name, "/\"\n") {
			f.Cluster, f.Resource, f.Port = parts[2], name, 0
			return true
		}
	}
	return false
}

// findTSH reads the certs that "tsh db login" and "tsh kube login" have left in
// a home, expired ones too: what they were for has not changed.
func findTSH(home string) ([]Found, error) {
	if _, err := os.Stat(filepath.Join(home, "keys")); err != nil {
		return nil, fmt.Errorf("tsh has no sessions in %s", home)
	}
	var list []Found
	for _, pattern := range []string{"*-db/*/*-x509.pem", "*-db/*/*.crt", "*-kube/*/*-x509.pem", "*-kube/*/*.crt"} {
		files, err := filepath.Glob(filepath.Join(escapeGlob(home), "keys", "*", filepath.FromSlash(pattern)))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if f, ok := foundInCert(file); ok && !slices.Contains(list, f) {
				list = append(list, f)
			}
		}
	}
	return list, nil
}

// foundInCert reads what a cert is for. A file that is none is passed over: tsh
// may be writing it.
func foundInCert(file string) (Found, bool) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return Found{}, false
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return Found{}, false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return Found{}, false
	}
	id := certwatch.ParseIdentity(cert.Subject)
	cluster := cmp.Or(id.RouteToCluster, id.TeleportCluster)
	switch {
	case id.DBService != "":
		return Found{
			From: id.DBService, Kind: state.KindDB, Cluster: cluster, Resource: id.DBService, Protocol: id.DBProtocol,
			DBUser: id.DBUser, DBName: id.DBName,
		}, true
	case id.KubeCluster != "":
		return Found{From: id.KubeCluster, Kind: state.KindKube, Cluster: cluster, Resource: id.KubeCluster}, true
	}
	return Found{}, false
}

// escapeGlob makes a folder's name mean itself in a pattern.
func escapeGlob(path string) string {
	if filepath.Separator == '\\' {
		return path // Windows has no escapes, and no such characters in most names
	}
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// findConnect reads the tabs of Teleport Connect, wherever in its state they
// are: that has moved between versions.
func findConnect(data []byte) ([]Found, error) {
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, fmt.Errorf("it is not valid JSON: %w", err)
	}
	var list []Found
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if f, ok := foundInTab(v); ok && !slices.Contains(list, f) {
				list = append(list, f)
			}
			for _, key := range slices.Sorted(maps.Keys(v)) {
				walk(v[key])
			}
		}
	}
	walk(v)
	return list, nil
}

// foundInTab reads a tab, or a connection of the list of recent ones: what it
// leads to is in a URI like /clusters/ROOT/leaves/LEAF/dbs/NAME.
func foundInTab(tab map[string]any) (Found, bool) {
	get := func(key string) string { s, _ := tab[key].(string); return s }
	kind, uri := get("kind"), cmp.Or(get("targetUri"), get("kubeUri"))
	if uri == "" || !strings.HasPrefix(kind, "doc.gateway") && !strings.HasPrefix(kind, "connection.") {
		return Found{}, false
	}
	parts := strings.Split(strings.TrimPrefix(uri, "/"), "/")
	values := map[string]string{}
	for i := 0; i+1 < len(parts); i += 2 {
		values[parts[i]] = parts[i+1]
	}
	f := Found{Cluster: values["leaves"]}
	if f.Cluster == "" {
		f.Proxy = values["clusters"] // Connect calls a root cluster by its proxy
	}
	switch {
	case values["dbs"] != "":
		f.Kind, f.Resource, f.DBUser, f.DBName = state.KindDB, values["dbs"], get("targetUser"), get("targetSubresourceName")
		f.local("127.0.0.1", get("port"))
	case values["kubes"] != "":
		f.Kind, f.Resource = state.KindKube, values["kubes"]
	default:
		return Found{}, false
	}
	f.From = f.Resource
	return f, true
}
