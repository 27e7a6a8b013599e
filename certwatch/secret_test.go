package certwatch_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"berth/certwatch"
	"berth/certwatch/certwatchtest"
	"berth/internal/tshhome"
)

// encodeLeaf returns a session's certificate as tsh writes it.
func encodeLeaf(s *certwatch.Session) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Cert.Certificate[0]})
}

// secrets returns a private key in the forms that a careless print would show.
func secrets(t *testing.T, key crypto.Signer) []string {
	t.Helper()
	var raw []byte
	switch key := key.(type) {
	case ed25519.PrivateKey:
		raw = key.Seed()
	case *ecdsa.PrivateKey:
		bytes, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return append(encodings(bytes), fmt.Sprint(key.D)) //nolint:staticcheck // as %v would print it
	default:
		t.Fatalf("key of type %T", key)
	}
	return encodings(raw)
}

func encodings(raw []byte) []string {
	return []string{
		string(raw), hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw),
		strings.Trim(fmt.Sprint(raw), "[]"), //nolint:staticcheck // QF1010: the list of numbers is meant
		fmt.Sprintf("%#v", raw),
	}
}

// Nothing that is printed, logged or marshalled may hold a key.
func TestNoKeyIsShown(t *testing.T) {
	ec, ed := certwatchtest.Keys(t)
	for _, key := range []crypto.Signer{ec, ed} {
		f := newFixture(t, certwatchtest.Login{Layout: tshhome.V17, TLSKey: key})
		f.age()
		p := f.load()
		var out bytes.Buffer
		for _, handler := range []slog.Handler{
			slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil),
		} {
			log := slog.New(handler)
			log.Info("profile", "profile", p, "value", *p)
			log.Info("session", "session", p.Session, "value", *p.Session)
			log.Info("view", "view", certwatch.View{Profiles: []*certwatch.Profile{p}})
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			fmt.Fprintf(&out, verb+"\n", p)
			fmt.Fprintf(&out, verb+"\n", *p)
			fmt.Fprintf(&out, verb+"\n", p.Session)
			fmt.Fprintf(&out, verb+"\n", *p.Session)
		}
		if err := json.NewEncoder(&out).Encode(p); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), p.Session.Fingerprint[:12]) {
			t.Errorf("the session is not described at all:\n%s", &out)
		}
		for _, secret := range secrets(t, key) {
			if strings.Contains(out.String(), secret) {
				t.Errorf("a key is shown as %q", secret)
			}
		}
	}
}

// What is wrong with a key file is said without quoting it.
func TestNoKeyInProblems(t *testing.T) {
	f := newFixture(t, certwatchtest.Login{})
	secret := "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
	for _, content := range []string{
		secret,
		"-----BEGIN PRIVATE KEY-----\n" + secret + "\n-----END PRIVATE KEY-----\n",
		"-----BEGIN OPENSSH PRIVATE KEY-----\n" + secret + "\n-----END OPENSSH PRIVATE KEY-----\n",
		"-----BEGIN " + secret + "-----\n" + secret + "\n-----END " + secret + "-----\n",
	} {
		f.put("%s/alice.key", []byte(content))
		f.age()
		p := f.load()
		if p.Problem == nil {
			t.Fatalf("no problem with key %q", content)
		}
		for _, s := range []string{secret, "secret-secret"} {
			if got := p.Problem.Error(); strings.Contains(got, s) {
				t.Errorf("problem %q shows the key", got)
			}
		}
	}
}
