package tsh

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzReadAccess reads the kubeconfig of a tsh, or of something in its place.
func FuzzReadAccess(f *testing.F) {
	f.Add([]byte("clusters: [{cluster: {server: \"https://127.0.0.1:1\", certificate-authority-data: AAAA}}]\nusers: [{user: {client-certificate-data: AAAA, client-key-data: AAAA}}]\n"))
	f.Add([]byte("clusters: []\nusers: []\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if access, err := readAccess(path); err == nil && (access.server == "" || access.tls == nil) {
			t.Errorf("%q leads to %q", raw, access.server)
		}
	})
}
