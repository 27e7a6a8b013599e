package browser

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"berth/internal/testneeds"
	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	openWait = testwait.Patience // no browser here stays, and all must have done their work
	m.Run()
}

func TestCheck(t *testing.T) {
	const proxy = "teleport.example.com:443"
	for _, tt := range []struct {
		name, raw string
		want      bool
	}{
		{"loopback", "http://127.0.0.1:38281/4a1b-22", true},
		{"localhost", "http://localhost:38281/4a1b?x=1", true},
		{"proxy", "https://teleport.example.com/web/headless/1", true},
		{"proxy_with_port", "https://teleport.example.com:443/web", true},
		{"proxy_in_capitals", "https://Teleport.Example.COM/web", true},
		{"proxy_at_another_port", "https://teleport.example.com:8443/web", false},
		{"proxy_by_http", "http://teleport.example.com/web", false},
		{"proxy_and_more", "https://teleport.example.com.evil.com/", false},
		{"proxy_as_user", "https://teleport.example.com@evil.com/", false},
		{"proxy_as_user_and_password", "https://teleport.example.com:443@evil.com/", false},
		{"empty_port", "https://teleport.example.com:/web", false},
		{"another_site", "https://evil.com/teleport.example.com", false},
		{"look_alike_letters", "https://tеleport.example.com/", false}, // a Cyrillic е
		{"punycode", "https://xn--tleport-9of.example.com/", false},
		{"trailing_dot", "https://teleport.example.com./", false},
		{"loopback_by_https", "https://127.0.0.1:38281/x", false},
		{"loopback_without_port", "http://127.0.0.1/x", false},
		{"loopback_with_port_0", "http://127.0.0.1:0/x", false},
		{"loopback_with_large_port", "http://127.0.0.1:65536/x", false},
		{"loopback_with_signed_port", "http://127.0.0.1:+80/x", false},
		{"loopback_without_path", "http://127.0.0.1:38281", false},
		{"loopback_as_user", "http://127.0.0.1:38281@evil.com/", false},
		{"loopback_and_more", "http://127.0.0.1.evil.com:80/", false},
		{"localhost_and_more", "http://localhost.evil.com:80/", false},
		{"other_loopback", "http://127.0.0.2:80/x", false},
		{"short_loopback", "http://127.1:80/x", false},
		{"decimal_loopback", "http://2130706433:80/x", false},
		{"ipv6_loopback", "http://[::1]:80/x", false},
		{"backslash", `http://127.0.0.1:80\@evil.com/`, false},
		{"white_space", "http://127.0.0.1:80/x --profile", false},
		{"newline", "http://127.0.0.1:80/x\nhttp://evil.com", false},
		{"quote", `http://127.0.0.1:80/"x`, false},
		{"file", "file:///etc/passwd", false},
		{"javascript", "javascript:alert(1)", false},
		{"scheme_in_capitals", "HTTP://127.0.0.1:80/x", false},
		{"no_slashes", "http:127.0.0.1:80/x", false},
		{"no_scheme", "//127.0.0.1:80/x", false},
		{"flag", "--new-window", false},
		{"empty", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Check(tt.raw, proxy, "other.example.com")
			var refused *RefusedError
			if (err == nil) != tt.want || err != nil && !errors.As(err, &refused) {
				t.Errorf("Check(%q) = %v, want it let through: %v", tt.raw, err, tt.want)
			}
		})
	}
	if err := Check("https://other.example.com/x", proxy, "other.example.com"); err != nil {
		t.Errorf("a proxy without its port: %v", err)
	}
	if err := Check("https://teleport.example.com/x"); err == nil {
		t.Error("without a proxy any https page is let through")
	}
}

func TestCommand(t *testing.T) {
	const raw = "http://127.0.0.1:1/x"
	for _, tt := range []struct {
		goos, browser string
		want          []string
	}{
		{"linux", "", []string{"xdg-open", raw}},
		{"darwin", "", []string{"open", raw}},
		{"windows", "", []string{"rundll32", "url.dll,FileProtocolHandler", raw}},
		{"linux", "firefox -P work", []string{"firefox", "-P", "work", raw}},
		{"linux", "chromium --app=%s:firefox", []string{"chromium", "--app=" + raw}},
		{"windows", `C:\firefox.exe`, []string{`C:\firefox.exe`, raw}},
	} {
		if got := command(tt.goos, tt.browser, raw); !slices.Equal(got, tt.want) {
			t.Errorf("command(%s, %q) = %q, want %q", tt.goos, tt.browser, got, tt.want)
		}
	}
}

// TestCommandWithBlanks: where a colon does not part commands, BROWSER may be a path as
// people have it there, blanks and all.
func TestCommandWithBlanks(t *testing.T) {
	testneeds.Unix(t, "the stand-in for a browser is a shell script")
	script := filepath.Join(t.TempDir(), "Google Chrome")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	const raw = "http://127.0.0.1:1/x"
	for _, goos := range []string{"darwin", "windows"} {
		if got, want := command(goos, script, raw), []string{script, raw}; !slices.Equal(got, want) {
			t.Errorf("command(%s, %q) = %q, want %q", goos, script, got, want)
		}
	}
}

func TestOpen(t *testing.T) {
	testneeds.Unix(t, "the stand-in for a browser is a shell script")
	dir := t.TempDir()
	script := filepath.Join(dir, "browser")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nprintf '%s' \"$1\" >"+filepath.Join(dir, "opened")+"\nexit $2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	env := func(browser string) func(string) string {
		return func(key string) string { return map[string]string{"BROWSER": browser}[key] }
	}
	if err := Open(t.Context(), "http://127.0.0.1:1/x;rm", nil, env(script+" %s 0")); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "opened")); err != nil || string(got) != "http://127.0.0.1:1/x;rm" {
		t.Errorf("opened %q, %v", got, err)
	}
	if err := Open(t.Context(), "http://127.0.0.1:1/x", nil, env(script+" %s 3")); err == nil {
		t.Error("a browser that fails is not reported")
	}
	if err := Open(t.Context(), "http://127.0.0.1:1/x", nil, env(filepath.Join(dir, "none"))); err == nil {
		t.Error("a browser that is not there is not reported")
	}
	if err := Open(t.Context(), "http://127.0.0.1:1/argv", []string{script}, env("none")); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "opened")); err != nil || string(got) != "http://127.0.0.1:1/argv" {
		t.Errorf("the command handed in opened %q, %v", got, err)
	}
	if err := os.Remove(filepath.Join(dir, "opened")); err != nil {
		t.Fatal(err)
	}
	if err := Open(t.Context(), "http://evil.com:1/x", nil, env(script+" %s 0")); err == nil {
		t.Error("a strange address was opened")
	}
	if _, err := os.Stat(filepath.Join(dir, "opened")); err == nil {
		t.Error("the browser was run with a strange address")
	}
}
