//go:build e2e && linux

package e2e

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

// probe is a question both worlds must answer alike. Where berth's own code
// rests on the answer, want says what it is (a part of it is enough).
type probe struct {
	name string
	want string
	ask  func(ctx context.Context, w *world) string
}

const alpnPostgres = "teleport-postgres"

// TestSimulationIsLikeReality asks a real and a simulated cluster the same
// questions: what berth is tested against must behave like what it is for.
func TestSimulationIsLikeReality(t *testing.T) {
	worlds := newWorlds(t)
	for _, group := range [][]probe{homeProbes, mintProbes, wireProbes, refusalProbes, apiProbes} {
		runProbes(t, worlds, group)
	}
	// The rest is about sessions that have ended.
	for _, w := range worlds {
		session, err := w.session(w.shortHome)
		if err != nil {
			t.Fatal(err)
		}
		sleepUntil(t.Context(), session.Leaf.NotAfter.Add(2*time.Second))
	}
	runProbes(t, worlds, expiredProbes)
}

func runProbes(t *testing.T, worlds []*world, probes []probe) {
	t.Helper()
	for _, p := range probes {
		t.Run(p.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			answers := make([]string, len(worlds))
			for i, w := range worlds {
				answers[i] = p.ask(ctx, w)
			}
			if diff := cmp.Diff(strings.Split(answers[0], "\n"), strings.Split(answers[1], "\n")); diff != "" {
				t.Errorf("the simulation (+) differs from reality (-):\n%s", diff)
			}
			if !strings.Contains(answers[0], p.want) {
				t.Errorf("reality answers %q, berth rests on %q", answers[0], p.want)
			}
			t.Logf("real: %s", answers[0])
		})
	}
}

// homeProbes are about what a login leaves in a TELEPORT_HOME.
var homeProbes = []probe{
	{name: "files_of_a_login", want: "keys/127.0.0.1/USER-x509.pem -rw-------", ask: func(_ context.Context, w *world) string {
		found, err := files(w.home)
		if err != nil {
			return err.Error()
		}
		var lines []string
		for name, mode := range found {
			lines = append(lines, strings.ReplaceAll(name, w.user, "USER")+" "+mode.String())
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}},
	{name: "profile_yaml", want: "tls_routing_enabled: true", ask: func(_ context.Context, w *world) string {
		text, err := os.ReadFile(filepath.Join(w.home, "127.0.0.1.yaml"))
		if err != nil {
			return err.Error()
		}
		return w.anonymous(string(text)) // order and spelling are tsh's own
	}},
	{name: "current_profile", want: "127.0.0.1", ask: func(_ context.Context, w *world) string {
		text, err := os.ReadFile(filepath.Join(w.home, "current-profile"))
		return fmt.Sprintf("%q %s", text, endOf(err))
	}},
	{name: "known_hosts", want: "@cert-authority", ask: func(_ context.Context, w *world) string {
		text, err := os.ReadFile(filepath.Join(w.home, "known_hosts"))
		if err != nil {
			return err.Error()
		}
		fields := strings.Fields(string(text))
		if len(fields) != 5 {
			return fmt.Sprintf("%d fields", len(fields))
		}
		// The kind of key and the key itself are the cluster's own affair.
		return fmt.Sprintf("%d lines: %q", strings.Count(string(text), "\n"), []string{fields[0], fields[1], fields[4]})
	}},
	{name: "session_cert_subject", want: "1.3.9999.1.7=ref.test", ask: func(_ context.Context, w *world) string {
		cert, err := w.session(w.home)
		if err != nil {
			return err.Error()
		}
		return w.subject(cert.Leaf)
	}},
	{name: "session_ssh_cert", want: "teleport-roles", ask: func(_ context.Context, w *world) string {
		text, err := os.ReadFile(filepath.Join(w.home, "keys", "127.0.0.1", w.user+"-ssh", w.cluster+"-cert.pub"))
		if err != nil {
			return err.Error()
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey(text)
		if err != nil {
			return err.Error()
		}
		cert, ok := key.(*ssh.Certificate)
		if !ok {
			return "it is no certificate"
		}
		lines := []string{fmt.Sprintf("key id %s, principals %q, critical %v", cert.KeyId, cert.ValidPrincipals, cert.CriticalOptions)}
		for _, name := range slices.Sorted(maps.Keys(cert.Extensions)) {
			lines = append(lines, name+"="+withoutEmpty(cert.Extensions[name]))
		}
		return w.anonymous(strings.Join(lines, "\n"))
	}},
	{name: "not_before_is_back_dated", want: "1m0s", ask: func(_ context.Context, w *world) string {
		cert, err := w.session(w.shortHome)
		if err != nil {
			return err.Error()
		}
		span := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
		return fmt.Sprintf("a session of %s has a cert that spans %s", shortSession, span.Round(5*time.Second))
	}},
}

// subject lists a cert's subject attributes by OID: Teleport's identity.
func (w *world) subject(leaf *x509.Certificate) string {
	var lines []string
	for _, attr := range leaf.Subject.Names {
		lines = append(lines, fmt.Sprintf("%s=%s", attr.Type, withoutEmpty(fmt.Sprint(attr.Value))))
	}
	slices.Sort(lines)
	lines = append(lines, "issuer "+leaf.Issuer.CommonName+" "+strings.Join(leaf.Issuer.Organization, ","),
		fmt.Sprintf("key usage %b, extended %v", leaf.KeyUsage, leaf.ExtKeyUsage))
	return w.anonymous(strings.Join(lines, "\n"))
}

// withoutEmpty spells a JSON object in one way, without what says nothing:
// traits a user does not have. Other text stays as it is.
func withoutEmpty(text string) string {
	var object map[string]any
	if json.Unmarshal([]byte(text), &object) != nil {
		return text
	}
	maps.DeleteFunc(object, func(_ string, v any) bool {
		list, isList := v.([]any)
		return v == nil || isList && (len(list) == 0 || len(list) == 1 && list[0] == "")
	})
	short, err := json.Marshal(object)
	if err != nil {
		return text
	}
	return string(short)
}

// anonymous takes out what differs from world to world.
func (w *world) anonymous(s string) string {
	s = strings.ReplaceAll(s, w.user, "USER")
	return strings.ReplaceAll(s, w.proxyAddr, "PROXY")
}

// mintProbes are about the certs the auth service issues.
var mintProbes = []probe{
	{name: "cert_is_clipped_to_the_session", want: "ends with the session", ask: func(ctx context.Context, w *world) string {
		req := w.request("pg")
		req.Expires = time.Now().Add(100 * time.Hour)
		cert, err := w.mint(ctx, w.clt, req)
		return describe(cert, err, w.against(w.home))
	}},
	{name: "a_past_end_is_refused", want: "client credentials have expired, please relogin.", ask: func(ctx context.Context, w *world) string {
		req := w.request("pg")
		req.Expires = time.Now().Add(-time.Minute)
		cert, err := w.mint(ctx, w.clt, req)
		return describe(cert, err, w.subject)
	}},
	{name: "no_end_is_refused", want: "refused", ask: func(ctx context.Context, w *world) string {
		req := w.request("pg")
		req.Expires = time.Time{}
		cert, err := w.mint(ctx, w.clt, req)
		return describe(cert, err, w.subject)
	}},
	{name: "db_cert_subject", want: "1.3.9999.2.1=pg", ask: func(_ context.Context, w *world) string { return w.subject(w.db.Leaf) }},
	{name: "an_unknown_service_is_not_noticed", want: "issued", ask: func(ctx context.Context, w *world) string {
		cert, err := w.mint(ctx, w.clt, w.request("nowhere"))
		return describe(cert, err, w.against(w.home))
	}},
	{name: "a_database_user_without_permission_is_not_noticed", want: "issued", ask: func(ctx context.Context, w *world) string {
		req := w.request("pg")
		req.RouteToDatabase.Username = "postgres"
		cert, err := w.mint(ctx, w.clt, req)
		return describe(cert, err, w.against(w.home))
	}},
	{name: "another_user_is_refused", want: "impersonation is not allowed", ask: func(ctx context.Context, w *world) string {
		req := w.request("pg")
		req.Username = "someone-else"
		cert, err := w.mint(ctx, w.clt, req)
		return describe(cert, err, w.subject)
	}},
	{name: "an_unknown_cluster_is_refused", want: "not found", ask: func(ctx context.Context, w *world) string {
		req := w.request("pg")
		req.RouteToCluster = "elsewhere.test"
		cert, err := w.mint(ctx, w.clt, req)
		return describe(cert, err, w.subject)
	}},
	{name: "the_old_key_field_is_required", want: "did not recognize new public key fields", ask: func(ctx context.Context, w *world) string {
		req := w.request("pg")
		req.TLSPublicKey = []byte("unread")
		_, err := w.clt.GenerateUserCerts(ctx, req)
		first, _, _ := strings.Cut(endOf(err), ", client version") // what follows names versions
		return "refused: " + first
	}},
	{name: "an_unknown_access_request_is_refused", want: "not found", ask: func(ctx context.Context, w *world) string {
		req := w.request("pg")
		req.AccessRequests = []string{"00000000-0000-4000-8000-000000000000"}
		cert, err := w.mint(ctx, w.clt, req)
		return describe(cert, err, w.subject)
	}},
}

// expiredProbes are about sessions that have ended.
var expiredProbes = []probe{
	{name: "an_open_connection_mints_what_has_ended", want: "has ended", ask: func(ctx context.Context, w *world) string {
		cert, err := w.mint(ctx, w.short, w.request("pg"))
		return describe(cert, err, func(leaf *x509.Certificate) string {
			if time.Now().Before(leaf.NotAfter) {
				return "valid"
			}
			return "has ended"
		})
	}},
	{name: "an_open_connection_still_pings", want: "no error", ask: func(ctx context.Context, w *world) string {
		_, err := w.short.Ping(ctx)
		return endOf(err)
	}},
	{name: "an_expired_cert_is_told_after_the_handshake", want: "tls: expired certificate", ask: func(ctx context.Context, w *world) string {
		cert, err := w.session(w.shortHome)
		if err != nil {
			return err.Error()
		}
		return w.talk(ctx, &cert, nil, startup("app", "appdb"), 1)
	}},
	{name: "a_new_client_is_refused", want: "refused", ask: func(ctx context.Context, w *world) string {
		begin := time.Now()
		clt, err := w.dialAuth(ctx, w.shortHome)
		if err == nil {
			_, err = clt.Ping(ctx)
			err = errors.Join(err, clt.Close())
		}
		if err == nil {
			return "let in"
		}
		return fmt.Sprintf("refused after all of its time: %t", time.Since(begin) > 4*time.Second)
	}},
}
