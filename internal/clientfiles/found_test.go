package clientfiles

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/agent/state"
	"berth/certwatch"
)

// readSource reads a file with this content as the source does.
func readSource(t *testing.T, name, content string) []Found {
	t.Helper()
	s, ok := LookupSource(name)
	if !ok {
		t.Fatalf("no source %q", name)
	}
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, content)
	list, err := s.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestFindDBeaver(t *testing.T) {
	got := readSource(t, "dbeaver", `{"connections": {
		"berth-pg": {"name": "pg", "provider": "postgresql", "configuration": {"host": "127.0.0.1", "port": "5432"}},
		"a": {"name": "orders", "provider": "postgresql", "configuration": {"host": "localhost", "port": "15432", "database": "app", "user": "alice"}},
		"b": {"name": "far", "provider": "postgresql", "configuration": {"host": "db.example.com", "port": "5432"}},
		"c": {"provider": "mysql", "configuration": {"url": "jdbc:mysql://127.0.0.1:3307/shop"}},
		"d": {"name": "cert", "provider": "postgresql", "configuration": {"host": "tp.example.com", "port": "443",
			"handlers": {"postgre_ssl": {"properties": {"ssl.client.cert": "C:\\Users\\a\\.tsh\\keys\\tp.example.com\\alice-db\\root\\orders-x509.pem"}}}}},
		"e": {"name": "odd", "configuration": {"host": "localhost", "port": "http"}}
	}}`)
	want := []Found{
		{From: "orders", Kind: state.KindDB, Protocol: "postgres", DBUser: "alice", DBName: "app", Port: 15432},
		{From: "c", Kind: state.KindDB, Protocol: "mysql", Port: 3307},
		{From: "cert", Kind: state.KindDB, Protocol: "postgres", Cluster: "root", Resource: "orders"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFindPGService(t *testing.T) {
	got := readSource(t, "pgservice", strings.Join([]string{
		"[far]", "host=db.example.com",
		"# berth: begin pg", "[pg]", "host=127.0.0.1", "port=5999", "# berth: end pg",
		"[near]", "host=localhost", "port = 15432", "user=alice", "dbname=app", "password=s3cret",
		"[root-orders]", "host=tp.example.com", "port=443", "sslmode=verify-full",
		"sslcert=/home/a/.tsh/keys/tp.example.com/alice-db/root/orders-x509.pem",
		"[v17]", "host=tp.example.com", "sslcert=/home/a/.tsh/keys/tp.example.com/alice-db/leaf/stock.crt", "",
	}, "\n"))
	want := []Found{
		{From: "near", Kind: state.KindDB, Protocol: "postgres", DBUser: "alice", DBName: "app", Port: 15432},
		{From: "root-orders", Kind: state.KindDB, Protocol: "postgres", Cluster: "root", Resource: "orders"},
		{From: "v17", Kind: state.KindDB, Protocol: "postgres", Cluster: "leaf", Resource: "stock"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The state of Teleport Connect 16, with a tab, a leaf's tab, a Kubernetes tab
// and the connections it remembers.
func TestFindConnect(t *testing.T) {
	got := readSource(t, "connect", `{"state": {
		"connectionTracker": {"connections": [
			{"kind": "connection.gateway", "targetUri": "/clusters/tp.example.com/dbs/orders", "targetName": "orders",
			 "targetUser": "alice", "targetSubresourceName": "app", "port": "35101"},
			{"kind": "connection.kube", "kubeUri": "/clusters/tp.example.com/kubes/prod"},
			{"kind": "connection.server", "serverUri": "/clusters/tp.example.com/servers/1"}]},
		"workspacesState": {"workspaces": {"/clusters/tp.example.com": {"documents": [
			{"kind": "doc.gateway", "targetUri": "/clusters/tp.example.com/dbs/orders", "targetUser": "alice",
			 "targetSubresourceName": "app", "port": "35101"},
			{"kind": "doc.gateway", "targetUri": "/clusters/tp.example.com/leaves/leaf/dbs/stock", "targetUser": "bob"},
			{"kind": "doc.gateway_kube", "targetUri": "/clusters/tp.example.com/kubes/prod"},
			{"kind": "doc.gateway", "targetUri": "/clusters/tp.example.com/apps/wiki"},
			{"kind": "doc.cluster", "clusterUri": "/clusters/tp.example.com"}]}}}}}`)
	want := []Found{
		{From: "orders", Kind: state.KindDB, Proxy: "tp.example.com", Resource: "orders", DBUser: "alice", DBName: "app", Port: 35101},
		{From: "prod", Kind: state.KindKube, Proxy: "tp.example.com", Resource: "prod"},
		{From: "stock", Kind: state.KindDB, Cluster: "leaf", Resource: "stock", DBUser: "bob"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Both layouts of a home, and files that are no certs.
func TestFindTSH(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home [1]*")
	dir := filepath.Join(home, "keys", "tp.example.com")
	for path, id := range map[string]certwatch.Identity{
		"alice-db/root/orders-x509.pem": {User: "alice", RouteToCluster: "root", DBService: "orders", DBProtocol: "postgres", DBUser: "alice", DBName: "app"},
		"alice-db/root/shop.crt":        {User: "alice", RouteToCluster: "root", DBService: "shop", DBProtocol: "mysql"},
		"alice-kube/root/prod.crt":      {User: "alice", TeleportCluster: "root", KubeCluster: "prod"},
	} {
		file := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, file, selfSigned(t, id))
	}
	write(t, filepath.Join(dir, "alice-db", "root", "half.crt"), "-----BEGIN CERT")
	s, _ := LookupSource("tsh")
	got, err := s.Read(home)
	if err != nil {
		t.Fatal(err)
	}
	want := []Found{
		{From: "orders", Kind: state.KindDB, Cluster: "root", Resource: "orders", Protocol: "postgres", DBUser: "alice", DBName: "app"},
		{From: "shop", Kind: state.KindDB, Cluster: "root", Resource: "shop", Protocol: "mysql"},
		{From: "prod", Kind: state.KindKube, Cluster: "root", Resource: "prod"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Read(t.TempDir()); err == nil {
		t.Error("a folder without sessions is read")
	}
}

func TestFindRefuses(t *testing.T) {
	for _, s := range Sources {
		if _, err := s.Read(filepath.Join(t.TempDir(), "missing")); err == nil {
			t.Errorf("%s reads a file that is not there", s.Name)
		}
		if s.Name == "tsh" {
			continue
		}
		path := filepath.Join(t.TempDir(), "file")
		write(t, path, "{")
		if _, err := s.Read(path); err == nil {
			t.Errorf("%s reads a broken file", s.Name)
		}
	}
}

func selfSigned(t *testing.T, id certwatch.Identity) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: id.Subject(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
