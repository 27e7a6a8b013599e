// Package conformance is what every backend of package patterns has to do, on a
// simulated cluster or a real one.
package conformance

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/certwatch"
	"berth/internal/patterns"
	"berth/internal/patterns/direct"
	"berth/internal/patterns/sdk"
	"berth/internal/patterns/tsh"
	"berth/internal/testwait"
)

// A Way is one of the three, with what it can do.
type Way struct {
	Name     string
	Open     patterns.Open
	Features patterns.Features
}

// Ways returns the three.
func Ways() []Way {
	return []Way{
		{"tsh", tsh.Open, tsh.Features},
		{"sdk", sdk.Open, sdk.Features},
		{"direct", direct.Open, direct.Features},
	}
}

// World is a cluster with a user who is logged in. Its functions fail the test
// when they cannot do what they are for.
type World struct {
	Config    patterns.Config
	User      string
	Databases []patterns.Database // all that the user may see, by name
	Route     patterns.Route      // to one of them, a Postgres
	WebCAs    *x509.CertPool
	Proxy     string

	// Ask makes an access request of the user's, with a reason, and returns
	// its id and its roles. Approve decides it.
	Ask     func(t *testing.T, reason string) (id string, roles []string)
	Approve func(t *testing.T, id string)
	// AskAsAnother makes a request of another user's, which the user may see.
	AskAsAnother func(t *testing.T)
	// Lock locks the user, and Unlock lets them in again.
	Lock, Unlock func(t *testing.T)
}

// patience is for contexts: most of it is never needed.
const patience = testwait.Patience

// Run tries a backend.
func Run(t *testing.T, way Way, w World) {
	t.Helper()
	b := Start(t, way, w.Config)
	t.Run("ping", func(t *testing.T) {
		if err := b.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("databases", func(t *testing.T) {
		got, err := b.Databases(t.Context())
		if diff := cmp.Diff(w.Databases, got); diff != "" || err != nil {
			t.Errorf("databases (-want +got), %v:\n%s", err, diff)
		}
	})
	t.Run("requests", func(t *testing.T) { requests(t, b, w) })
	t.Run("watch", func(t *testing.T) { watch(t, b, w) })
	t.Run("mint", func(t *testing.T) { mint(t, b, w) })
	t.Run("stranger", func(t *testing.T) { stranger(t, way, w.Config) })
	t.Run("locked", func(t *testing.T) {
		w.Lock(t)
		defer w.Unlock(t)
		Refused(t, way, b.Ping(t.Context()), patterns.ErrDenied)
	})
}

// Start opens a backend until the test ends.
func Start(t *testing.T, way Way, cfg patterns.Config) patterns.Backend {
	t.Helper()
	b, err := way.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// Refused checks that an error is of a kind, if the way's errors are, and of none
// if they are not.
func Refused(t *testing.T, way Way, err, kind error) {
	t.Helper()
	kinds := []error{patterns.ErrUnreachable, patterns.ErrExpired, patterns.ErrDenied}
	is := slices.DeleteFunc(kinds, func(k error) bool { return !errors.Is(err, k) })
	want := []error{kind}
	if !way.Features.TypedErrors {
		want = nil
	}
	if err == nil || !slices.Equal(is, want) {
		t.Errorf("the error is %v, of kind %v; want it of kind %v", err, is, want)
	}
}

func requests(t *testing.T, b patterns.Backend, w World) {
	w.AskAsAnother(t)
	id, roles := w.Ask(t, "to look at it")
	list, err := b.Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(list, func(r patterns.Request) bool { return r.User != w.User }) {
		t.Errorf("another user's request is in %+v", list)
	}
	want := patterns.Request{ID: id, User: w.User, Roles: roles, Reason: "to look at it", State: patterns.Pending}
	if diff := cmp.Diff(want, find(list, id)); diff != "" {
		t.Errorf("the request (-want +got):\n%s", diff)
	}
	w.Approve(t, id)
	if list, err = b.Requests(t.Context()); err != nil || find(list, id).State != patterns.Approved {
		t.Errorf("after the approval: %+v, %v", list, err)
	}
}

func find(list []patterns.Request, id string) patterns.Request {
	i := slices.IndexFunc(list, func(r patterns.Request) bool { return r.ID == id })
	if i < 0 {
		return patterns.Request{}
	}
	return list[i]
}

// watch sees a request that was there before, one that is made, and an approval.
func watch(t *testing.T, b patterns.Backend, w World) {
	before, _ := w.Ask(t, "before")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen := make(chan patterns.Request, 1000)
	ended := make(chan error, 1)
	go func() {
		for left := 2; ; left-- {
			began := false
			err := b.WatchRequests(ctx, func(r patterns.Request) { began = true; seen <- r })
			if ctx.Err() != nil || !began || left == 0 {
				ended <- err
				return
			}
			t.Logf("the cluster ended the watch, and it begins again: %v", err)
		}
	}()
	await := func(id string, state patterns.State) {
		t.Helper()
		for {
			select {
			case r := <-seen:
				if r.User != w.User {
					t.Errorf("another user's request is seen: %+v", r)
				}
				if r.ID == id && r.State == state {
					return
				}
			case err := <-ended:
				t.Fatalf("the watch ended before %s was %s: %v", id, state, err)
			}
		}
	}
	await(before, patterns.Pending)
	after, _ := w.Ask(t, "after")
	await(after, patterns.Pending)
	w.AskAsAnother(t)
	w.Approve(t, before)
	await(before, patterns.Approved)
	last, _ := w.Ask(t, "last") // comes after what was not to be seen
	await(last, patterns.Pending)
	cancel()
	if err := <-ended; err == nil {
		t.Error("a watch that was cancelled returned no error")
	}
}

// stranger asks a cluster whose certificate is of no CA that the home knows.
func stranger(t *testing.T, way Way, cfg patterns.Config) {
	home := filepath.Join(t.TempDir(), "home")
	if err := os.CopyFS(home, os.DirFS(cfg.Home)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(home, "keys", "*", "cas", "*.pem"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the CAs of clusters in %s: %v, %v", home, files, err)
	}
	for _, file := range files {
		if err := os.WriteFile(file, anotherCA(t, file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cfg.Home = home
	if err := Start(t, way, cfg).Ping(ctx); err == nil {
		t.Error("a cluster that no known CA vouches for is believed")
	}
}

// anotherCA returns a CA with the name of the one in a file, and a key of its own.
func anotherCA(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no certificate in %s", file)
	}
	old, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: old.SerialNumber, Subject: old.Subject, NotBefore: old.NotBefore, NotAfter: old.NotAfter,
		KeyUsage: old.KeyUsage, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// mint has a certificate for a database, and shows it to the proxy.
func mint(t *testing.T, b patterns.Backend, w World) {
	cert, err := b.MintDB(t.Context(), w.Route)
	if err != nil {
		t.Fatal(err)
	}
	id := certwatch.ParseIdentity(cert.Leaf.Subject)
	got := patterns.Route{Database: id.DBService, Protocol: id.DBProtocol, User: id.DBUser, Name: id.DBName}
	if got != w.Route || id.User != w.User {
		t.Errorf("the certificate is %s's, for %+v; want %s's, for %+v", id.User, got, w.User, w.Route)
	}
	if !time.Now().Before(cert.Leaf.NotAfter) {
		t.Errorf("the certificate ended at %s", cert.Leaf.NotAfter)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{
		Certificates: []tls.Certificate{*cert}, RootCAs: w.WebCAs, NextProtos: []string{"teleport-postgres"}, MinVersion: tls.VersionTLS12,
	}}
	conn, err := dialer.DialContext(ctx, "tcp", w.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answer := make([]byte, 1)
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f}); err != nil { // SSLRequest
		t.Fatal(err)
	}
	if _, err := conn.Read(answer); err != nil || answer[0] != 'N' {
		t.Errorf("Teleport answers %q, %v, want its N", answer, err)
	}
}
