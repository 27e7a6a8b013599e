package link

import (
	"errors"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
)

// TestEveryKind: a link can add a tunnel of each kind, although the parser may not import
// the table of kinds.
func TestEveryKind(t *testing.T) {
	for _, k := range state.Kinds {
		if _, err := Parse("berth://add?cluster=c&resource=r&kind=" + string(k.Kind)); err != nil {
			t.Errorf("%s: %v", k.Kind, err)
		}
	}
}

func TestParse(t *testing.T) {
	for raw, want := range map[string]Link{
		"berth://open":                               {Verb: Open},
		"berth://open/":                              {Verb: Open},
		"berth://login/teleport.example.com":         {Verb: Login, Proxy: "teleport.example.com"},
		"berth://login/teleport.example.com:3080":    {Verb: Login, Proxy: "teleport.example.com:3080"},
		"berth://login/teleport.example.com%3A443":   {Verb: Login, Proxy: "teleport.example.com:443"},
		"berth://tunnel/prod-pg":                     {Verb: Tunnel, Name: "prod-pg"},
		"berth://add?cluster=c&kind=db&resource=pg":  {Verb: Add, Cluster: "c", Kind: "db", Resource: "pg", Name: "pg"},
		"berth://add?cluster=c&kind=kube&resource=k": {Verb: Add, Cluster: "c", Kind: "kube", Resource: "k", Name: "k"},
		"berth://add?cluster=c&database=orders&kind=db&resource=pg&user=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx": {
			Verb: Add, Cluster: "c", Kind: "db", Resource: "pg", User: "arn:aws:iam::1:role/x", Database: "orders", Name: "pg",
		},
		"berth://request/5e1f0c2a":               {Verb: Request, ID: "5e1f0c2a"},
		"berth://assume/5e1f0c2a":                {Verb: Assume, ID: "5e1f0c2a"},
		"berth://assume/5e1f0c2a?tunnel=prod-pg": {Verb: Assume, ID: "5e1f0c2a", Tunnel: "prod-pg"},
		"berth://recording/5e1f0c2a":             {Verb: Recording, ID: "5e1f0c2a"},
		"berth://recording/5e1f0c2a?t=90":        {Verb: Recording, ID: "5e1f0c2a", At: 90 * time.Second},
		"berth://recording/5e1f0c2a?t=90.25":     {Verb: Recording, ID: "5e1f0c2a", At: 90*time.Second + 250*time.Millisecond},
		"berth://add?user=a%40b&name=x&resource=pg.eu&kind=db&cluster=example.com": {
			Verb: Add, Cluster: "example.com", Kind: "db", Resource: "pg.eu", User: "a@b", Name: "x",
		},
	} {
		got, err := Parse(raw)
		if err != nil || got != want {
			t.Errorf("%s is %+v, %v; want %+v", raw, got, err, want)
		}
		if err := want.Check(); err != nil {
			t.Errorf("%s does not come back: %v", want, err)
		}
		if wish := want.Wish(); wish == "" || strings.ContainsAny(wish, "%?&") {
			t.Errorf("%s wants to %q", raw, wish)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, raw := range []string{
		"", "berth", "berth:", "berth:open", "berth:/open", "berth://", "Berth://open", "http://open", " berth://open", "berth://open ",
		"berth://open#x", "berth://open\n", "berth://open\x00", "berth://öpen", "berth://OPEN", "berth:///open", "berth://open/x", "berth://open?x=1",
		"berth://quit", "berth://config", "berth://a@open", "berth://open:80",
		// A proxy, and nothing that looks like more.
		"berth://login", "berth://login/", "berth://login//evil.com", "berth://login/a/b", "berth://login/user@evil.com", "berth://login/evil.com:",
		"berth://login/evil.com:0", "berth://login/evil.com:99999", "berth://login/-evil", "berth://login/--insecure", "berth://login/evil.com/",
		"berth://login/evil.com%2Fpath", "berth://login/evil.com%00", "berth://login/evil.com%0a", "berth://login/evil.com%20--user",
		"berth://login/%65vil.com%252F", "berth://login/%", "berth://login/%2", "berth://login/%zz", "berth://login/..", "berth://login/evil..", "berth://login/a..b", "berth://login/a-.b", "berth://login/a.-b:443",
		"berth://login/" + strings.Repeat("a", 261), "berth://login/" + strings.Repeat("%61", 500), "berth://login/t\u0435leport.example.com",
		"berth://login/%D1%82eleport.example.com", "berth://login/a?user=root", "berth://login/a?",
		// No path tricks, no options.
		"berth://tunnel/..", "berth://tunnel/.", "berth://tunnel/a/..", "berth://tunnel/%2e%2e", "berth://tunnel/-rf", "berth://tunnel/a%2fb", "berth://tunnel/",
		"berth://tunnel/a%20b", "berth://tunnel/a+b", "berth://tunnel/" + strings.Repeat("a", 65), "berth://tunnel/a?b",
		// All keys known, each once, none missing.
		"berth://add", "berth://add?", "berth://add?kind=db&resource=pg", "berth://add?cluster=c&resource=pg", "berth://add?cluster=c&kind=db",
		"berth://add?cluster=c&kind=ssh&resource=pg", "berth://add?cluster=c&kind=db&resource=pg&guard=off",
		"berth://add?cluster=c&kind=db&resource=pg&resource=x", "berth://add?cluster=c&kind=db&resource=pg&", "berth://add?cluster=c&&kind=db&resource=pg",
		"berth://add?cluster=&kind=db&resource=pg", "berth://add?cluster=c&kind=db&resource=a%25b", "berth://add?cluster=c&kind=db&resource=a%2526",
		"berth://add?cluster=c&kind=db&resource=a;b", "berth://add?cluster=c&kind=db&resource=a%22b", "berth://add?cluster=c&kind=db&resource=a:b",
		"berth://add/x?cluster=c&kind=db&resource=pg", "berth://add?Cluster=c&kind=db&resource=pg", "berth://add?cluster=c&kind=db&resource=pg&user=",
		"berth://add?cluster=c&kind=db&resource=pg&user=/x", "berth://add?cluster=c&kind=db&resource=a%2Fb", "berth://add?cluster=c&kind=db&resource=pg&database=",
		"berth://add?cluster=c&kind=db&resource=pg&database=a%2Fb", "berth://add?cluster=c&kind=db&resource=pg&database=x&database=y",
		"berth://add?cluster=c&kind=db&resource=pg?x=1", "berth://add?cluster=c&kind=db&resource=pg&name=a b",
		"berth://request", "berth://request/abc", "berth://request/*", "berth://request/5e1f_c2a", "berth://assume/5e1f0c2a?tunnel=", "berth://assume/5e1f0c2a?tunnel=..",
		"berth://assume/5e1f0c2a?yes=1", "berth://recording/5e1f0c2a?t=-1", "berth://recording/5e1f0c2a?t=1m", "berth://recording/5e1f0c2a?t=1.", "berth://recording/5e1f0c2a?t=1.2345", "berth://recording/5e1f0c2a?t=999999999",
		"berth://recording/5e1f0c2a?t=1&t=2",
	} {
		l, err := Parse(raw)
		if refused := (*Error)(nil); !errors.As(err, &refused) || l != (Link{}) {
			t.Errorf("%q is %+v, %v", raw, l, err)
		}
	}
}

// The scheme is no way back from a login: whatever an identity provider or a page
// would hand to an application's own scheme is refused (RFC 8252, sections 7.1 and
// 8.6).
func TestNoLinkCarriesACode(t *testing.T) {
	for _, raw := range []string{
		"berth://callback?code=4/0AX4XfWh&state=x", "berth://login/callback?code=1", "berth://login/a.example.com?code=1", "berth://login?code=1&state=2",
		"berth://login/a.example.com?token=1", "berth://login/a.example.com?response=1", "berth://login/a.example.com?otp=123456",
		"berth://login/a.example.com?password=x", "berth://login/a.example.com#access_token=x", "berth://open?access_token=x", "berth://oauth/x",
		"berth://login/a.example.com?secret_key=x", "berth://request/5e1f0c2a?token=x", "berth:/callback?code=1", "berth:callback?code=1",
	} {
		if l, err := Parse(raw); err == nil {
			t.Errorf("%s is %+v", raw, l)
		}
	}
	for verb, f := range forms {
		for key := range f.keys {
			for _, secret := range []string{"code", "token", "pass", "secret", "key", "otp", "state", "response", "ticket"} {
				if strings.Contains(key, secret) {
					t.Errorf("links to %s have the key %s", verb, key)
				}
			}
		}
	}
	if len(forms) != len(verbs) {
		t.Errorf("there are %d verbs and %d forms", len(verbs), len(forms))
	}
}

func FuzzParse(f *testing.F) {
	for _, raw := range []string{
		"berth://open", "berth://login/a.example.com:443", "berth://add?cluster=c&kind=db&resource=pg&user=a%40b&name=x",
		"berth://assume/5e1f0c2a?tunnel=prod-pg", "berth://recording/5e1f0c2a?t=90", "berth://login/%2e%2e?code=1",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		l, err := Parse(raw)
		if err != nil {
			if l != (Link{}) || len(err.Error()) > 200 {
				t.Errorf("%q is refused as %+v: %v", raw, l, err)
			}
			return
		}
		again, err := Parse(l.String())
		if err != nil || again != l {
			t.Errorf("%q is %+v, written %s and read as %+v, %v", raw, l, l, again, err)
		}
		user := strings.ReplaceAll(l.User, "/", "_") // which has slashes at AWS
		for _, text := range []string{l.Proxy, l.Name, l.Tunnel, l.Cluster, l.Kind, l.Resource, l.Database, user, l.ID} {
			if strings.ContainsAny(text, " \t\r\n\x00'\"`$;&|<>\\/%") || strings.HasPrefix(text, "-") || strings.HasPrefix(text, ".") {
				t.Errorf("%q lets %q through", raw, text)
			}
		}
		if l.Wish() == "" {
			t.Errorf("%q wants nothing", raw)
		}
	})
}
