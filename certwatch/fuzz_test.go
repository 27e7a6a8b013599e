package certwatch

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

func FuzzParseProfile(f *testing.F) {
	for _, seed := range []string{
		"web_proxy_addr: p:443\nuser: alice\ncluster: root\n",
		"user: \"..\"\nweb_proxy_addr: p\n", "a: &a [*a]", "\t", "tls_routing_enabled: [1]\nuser: {}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parseProfile(data)
		if err != nil {
			return
		}
		if p.User == "" || p.WebProxyAddr == "" || bytes.ContainsAny([]byte(p.User), "/\\\x00") {
			t.Errorf("parseProfile(%q) = %+v, which names no file", data, p)
		}
	})
}

func FuzzParseSSHCert(f *testing.F) {
	f.Add([]byte("ssh-ed25519-cert-v01@openssh.com AAAA\n"), `{"roles":["a"]}`)
	f.Add([]byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"), `["a"]`)
	f.Fuzz(func(t *testing.T, data []byte, list string) {
		if cert, err := parseSSHCert(data); err == nil && sshIdentity(cert).KeyID != cert.KeyId {
			t.Errorf("sshIdentity of %q has another key id", data)
		}
		if got := jsonList(list, "roles"); got != nil && !json.Valid([]byte(list)) {
			t.Errorf("jsonList(%q) = %q of invalid JSON", list, got)
		}
	})
}

// FuzzAssemble puts anything into all the files of a profile.
func FuzzAssemble(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
		[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []byte("ssh-rsa AAAA"))
	f.Fuzz(func(t *testing.T, key, cert, ssh []byte) {
		r := &profileFiles{
			home: "/home", name: "p", readAt: time.Now(),
			yaml:   content{path: "p.yaml", data: []byte("web_proxy_addr: p\nuser: u\n")},
			parsed: profileFile{WebProxyAddr: "p", User: "u"},
			key:    content{path: "u", data: key}, pub: content{path: "u.pub", data: ssh},
			x509:     content{path: "u-x509.pem", data: cert},
			tlsKey:   content{path: "u.key", data: key},
			crt:      content{path: "u.crt", data: cert},
			sshCerts: map[string]content{"": {path: "c", data: ssh}},
			cas:      map[string]content{"c": {path: "cas/c.pem", data: cert}},
		}
		p := assemble(r, patience{broken: defaultPatience, gone: defaultGonePatience}).profile
		if p.Problem == nil && (p.Session == nil || p.Session.Cert.Leaf == nil) {
			t.Errorf("neither session nor problem")
		}
		if s := p.Session; s != nil && s.KeyError == nil && s.Cert.PrivateKey == nil {
			t.Errorf("a session without key and without a reason")
		}
	})
}
