//go:build !windows

package doctor

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/agent/config"
	"berth/agent/state"
)

// planted are secrets, each in the company in which it comes.
var planted = []string{
	"password=hunter2-pw", "password: hunter3-pw", `"password":"hunter4-pw"`, `password="hunter5 pw"`, "--password hunter6-pw", "PGPASSWORD=hunter7-pw",
	"token=tok-1234567", `access_token: "tok-2345678"`, "api_key=key-3456789", "client_secret=sec-4567890", "otp=654321", "the passphrase is correct-horse",
	"Authorization: Bearer abc.def-ghi123", `Authorization: "Basic dXNlcjpodW50ZXI4"`, "bearer tok_short1", "Cookie: session=cookie-value-1; other=cookie-value-2",
	"X-Api-Key: header-key-77", "postgres://alice:hunter9-pw@db.example.com/app", "https://example.com/login?code=query-secret-1", "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP",
	"http://127.0.0.1:3456/5f3a-login-page", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJlLXZhbHVl", "ghp_0123456789abcdefABCDEF", "AKIAIOSFODNN7EXAMPLE",
	"0123456789abcdef0123456789abcdef", "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG",
}

// neverThere is what must be nowhere.
var neverThere = []string{
	"hunter", "tok-1234567", "tok-2345678", "key-3456789", "sec-4567890", "654321", "correct-horse", "abc.def-ghi123", "dXNlcjpodW50ZXI4", "tok_short1",
	"cookie-value", "header-key-77", "query-secret-1", "JBSWY3DPEHPK3PXP", "5f3a-login-page", "eyJzdWIi", "c2lnbmF0dXJl", "0123456789abcdef",
	"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI", "env-only-secret", "comment-secret", "hook-secret", "PRIVATE KEY", "BEGIN CERT", "unknown-value",
}

func readBundle(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for r := tar.NewReader(zip); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(head.Name, "berth-doctor/")] = string(text)
	}
}

// keyLines are the lines of every key and cert in a home: none may be in the
// bundle, not even without the lines around it.
func keyLines(t *testing.T, home string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(filepath.Join(home, "keys"), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		for line := range strings.Lines(string(raw)) {
			if line = strings.TrimSpace(line); len(line) >= 40 && !strings.HasPrefix(line, "-----") {
				lines = append(lines, line)
			}
		}
		return err
	})
	if err != nil || len(lines) < 10 {
		t.Fatalf("%d lines of keys, %v", len(lines), err)
	}
	return lines
}

// TestBundleHasNoSecrets plants secrets wherever berth could pick one up.
func TestBundleHasNoSecrets(t *testing.T) {
	whole := logBytes
	logBytes = 32 << 10
	t.Cleanup(func() { logBytes = whole })
	b := newBench(t, nil)
	keys := keyLines(t, b.Home)
	key, err := os.ReadFile(filepath.Join(b.Home, "keys", "localhost", "alice"))
	b.must(err)
	cert, err := os.ReadFile(filepath.Join(b.Home, "keys", "localhost", "alice-x509.pem"))
	b.must(err)
	all := strings.Join(planted, "\n") + "\n" + string(key) + string(cert) + "the value is env-only-secret\n" + strings.Join(keys, "\n")
	b.Configure(b.Trust(), "# comment-secret "+strings.Join(planted, " "),
		"tunnels:", "  - {name: pg, kind: db, cluster: sim.test, resource: orders, db_user: unknown-value, port: 20001} # comment-secret",
		"access: {hooks: [{run: [notify-me, hook-secret]}]}")
	config, err := os.ReadFile(b.cfg.Paths.Config)
	b.must(err)
	b.write(b.cfg.Paths.LogFile, "level=INFO msg=started tunnel=pg\n"+all, 0o600)
	b.write(filepath.Join(filepath.Dir(b.cfg.Paths.LogFile), "tray.log"), strings.ReplaceAll(all, "\n", `\n`), 0o600)
	// Of a log set aside the end is taken too; of this one, from amid a key on.
	const line = "level=INFO msg=older\n"
	end := "level=WARN msg=\"set aside\"\n" + all
	filler := strings.Repeat(line, (int(logBytes)-len(end)-len(key)/2)/len(line))
	b.write(b.cfg.Paths.LogFile+".1", string(key)+filler+end, 0o600)
	b.write(b.cfg.Paths.LogFile+".3", all+"level=INFO msg=oldest\n", 0o600)
	b.write(filepath.Join(filepath.Dir(b.cfg.Paths.LogFile), "tray.log.2"), "level=INFO msg=tray\n"+all, 0o600)
	b.write(filepath.Join(filepath.Dir(b.cfg.Paths.LogFile), "agent.output.log"), "panic: "+all, 0o600)
	snap := state.Snapshot{
		Agent:    state.Agent{Version: "1.0.0", StartedAt: time.Now()},
		Profiles: []state.Profile{{Proxy: "p", Login: state.Login{URL: "http://127.0.0.1:3456/5f3a-login-page"}}},
		Requests: []state.Request{{Reason: all}},
		Problems: []state.Problem{{Text: all}},
		Tunnels:  []state.Tunnel{{TunnelSpec: state.TunnelSpec{Name: "pg"}, Problem: &state.Problem{Text: all}}},
	}
	var findings []Finding
	for _, p := range append(slices.Clone(planted), all) {
		findings = append(findings, Finding{Check: "x", Status: Fail, Text: p, Fix: p, Fixed: p})
	}
	environ := []string{"MY_TOKEN=env-only-secret", "DB_PASSWORD=env-only-secret", "SHELL=/bin/sh"}
	b.env["HTTPS_PROXY"] = "http://bob:hunter10-pw@proxy.example.com"

	for name, broken := range map[string]bool{"good_config": false, "broken_config": true} {
		t.Run(name, func(t *testing.T) {
			text := string(config)
			if broken {
				text = "a: [\n" + all
			}
			b.write(b.cfg.Paths.Config, text, 0o600)
			out := b.path(name + ".tar.gz")
			b.must(WriteBundle(out, b.cfg, Report{Findings: findings, Snapshot: &snap}, environ))
			info, err := os.Stat(out)
			b.must(err)
			if info.Mode().Perm() != 0o600 {
				t.Errorf("mode %o", info.Mode().Perm())
			}
			files := readBundle(t, out)
			for file, text := range files {
				for _, s := range append(slices.Clone(neverThere), keys...) {
					if i := strings.Index(text, s); i >= 0 && file != "README.txt" {
						t.Errorf("%s has %q: %q", file, s, text[max(0, i-60):min(len(text), i+40)])
					}
				}
				if strings.HasSuffix(file, ".json") && !json.Valid([]byte(text)) {
					t.Errorf("%s is no JSON any more", file)
				}
			}
			checkUseful(t, files, broken)
		})
	}
}

// checkUseful: what helps is still there.
func checkUseful(t *testing.T, files map[string]string, broken bool) {
	t.Helper()
	for file, words := range map[string][]string{
		"versions.json": {"1.0.0", "linux"}, "findings.json": {`"fail"`}, "snapshot.json": {`"name": "pg"`}, "agent.log": {"level=INFO msg=started tunnel=pg"},
		"environment.txt": {"HTTPS_PROXY set", "TELEPORT_HOME not set"}, "config.yaml": {"resource: orders", "port: 20001", "kind: db"}, "tray.log": {gone},
		"README.txt": {"read"}, "agent.log.1": {`msg="set aside"`}, "agent.log.3": {"msg=oldest"}, "tray.log.2": {"msg=tray"}, "agent.output.log": {"panic: "},
	} {
		if file == "config.yaml" && broken {
			words = []string{"no YAML"}
		}
		if file == "versions.json" {
			words = words[:1]
		}
		for _, w := range words {
			if !strings.Contains(files[file], w) {
				t.Errorf("%s has no %q:\n%s", file, w, files[file])
			}
		}
	}
}

// TestBundleKeepsKeys: the config in a bundle has each key that it has in the file, and
// each value that can be nothing but plain. A key that is new needs no word in this package.
func TestBundleKeepsKeys(t *testing.T) {
	file, want := "tunnels:\n", []string{"log_size: 20", "handover_grace: 1h", "listen: ", "mode: local", "pprof: true", "sensitive:"}
	for i, k := range config.TunnelKeys {
		value := map[string]string{"int": "15432", "bool": "false", "duration": "90s"}[k.Type()]
		if choices := k.Choices(); len(choices) > 0 {
			value = choices[0]
		}
		if value != "" {
			want = append(want, k.Name+": "+value)
		} else {
			want = append(want, k.Name+": ")
		}
		file += fmt.Sprintf("  - {name: t%d, %s: %s}\n", i, k.Name, cmp.Or(value, "text"))
	}
	file += "limits: {log_size: 20}\nhandover_grace: 1h\nmetrics: {listen: 127.0.0.1:1, pprof: true}\n" +
		"telemetry: {mode: local}\naccess: {sensitive: [admin], hooks: [{run: [a-command]}]}\n"
	got := newRedactor(nil).config([]byte(file))
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("no %q", w)
		}
	}
	for _, gone := range []string{"REMOVED:", "admin", "a-command"} {
		if strings.Contains(got, gone) {
			t.Errorf("it has %q", gone)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

// FuzzRedact: whatever stands around a PEM block or a bearer token, nothing of
// it stays, and redacting twice changes nothing that matters.
func FuzzRedact(f *testing.F) {
	f.Add("x", "y")
	f.Add("\"", "\\n")
	f.Add("-----BEGIN X-----", "eyJ")
	secret := base64.StdEncoding.EncodeToString([]byte("a private key that no one may ever see!"))
	f.Fuzz(func(t *testing.T, before, after string) {
		text := before + "-----BEGIN PRIVATE KEY-----\n" + secret + "\n-----END PRIVATE KEY-----" + after + "\nAuthorization: Bearer " + secret + "\n"
		if got := newRedactor(nil).text(text); strings.Contains(got, secret) {
			t.Errorf("%q is in %q", secret, got)
		}
	})
}
