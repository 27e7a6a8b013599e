// Package browser opens login pages, and berth's own window, in the user's own browser.
//
// It promises to open nothing but a page on this machine's loopback interface,
// by plain HTTP, or a page of a Teleport proxy that the caller names, by HTTPS:
// whatever a program printed, or was made to print, no other address is ever
// handed to the system.
package browser

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RefusedError says that a URL is not opened.
type RefusedError struct{ Why string }

// Error says why not.
func (e *RefusedError) Error() string { return "the address is not opened: " + e.Why }

// Refused is true. Packages that must not import this one know the error by it.
func (e *RefusedError) Refused() bool { return true }

// Check returns a [*RefusedError] unless raw is a loopback page or one of the
// proxies, given as host:port.
func Check(raw string, proxies ...string) error {
	for _, r := range raw {
		// What a browser would read differently from us: white space, other
		// scripts' look-alikes, backslashes.
		if r <= ' ' || r > '~' || strings.ContainsRune("\\\"'`<>^|{}", r) {
			return &RefusedError{"it has unusual characters"}
		}
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return &RefusedError{"it is no URL"}
	case u.Opaque != "" || u.Host == "" || !strings.HasPrefix(raw, u.Scheme+"://"):
		return &RefusedError{"it names no host"}
	case u.User != nil || strings.Contains(u.Host, "@"):
		return &RefusedError{"it has a user name in it"}
	}
	switch u.Scheme {
	case "http":
		return checkLoopback(u)
	case "https":
		port := u.Port()
		if port == "" {
			port = "443"
		}
		host := net.JoinHostPort(strings.ToLower(u.Hostname()), port)
		if strings.HasSuffix(u.Host, ":") || !slices.ContainsFunc(proxies, func(p string) bool { return withPort(p) == host }) {
			return &RefusedError{"it is no page of the proxy"}
		}
		return nil
	default:
		return &RefusedError{"it is neither http nor https"}
	}
}

func checkLoopback(u *url.URL) error {
	port, err := strconv.Atoi(u.Port())
	switch {
	case u.Hostname() != "127.0.0.1" && u.Hostname() != "localhost":
		return &RefusedError{"it is not on this machine"}
	case err != nil || port < 1 || port > 65535 || u.Host != u.Hostname()+":"+u.Port():
		return &RefusedError{"it has no port"}
	case !strings.HasPrefix(u.Path, "/"):
		return &RefusedError{"it has no path"}
	}
	return nil
}

func withPort(proxy string) string {
	proxy = strings.ToLower(proxy)
	if _, _, err := net.SplitHostPort(proxy); err != nil {
		return net.JoinHostPort(proxy, "443")
	}
	return proxy
}

// openWait is how long the browser's command is watched: a command fails at
// once or not at all, and some are the browser itself and stay. Tests set it.
var openWait = 2 * time.Second

// Open opens raw if [Check] lets it, with the given command; without one with
// what BROWSER names in the environment that env reads, else as the system
// does. %s stands for the URL in a command, which otherwise gets it last.
func Open(ctx context.Context, raw string, argv []string, env func(string) string, proxies ...string) error {
	argv, err := opener(raw, argv, env, proxies)
	if err != nil {
		return err
	}
	return run(ctx, argv)
}

// OpenFromService opens as [Open] does, for a program that systemd's user manager runs: the
// manager starts the command. What a service starts itself has the environment of the
// service, which began before the desktop had a screen to name, ends with the service, and
// may not gain privileges, which snap's browsers need.
func OpenFromService(ctx context.Context, raw string, argv []string, env func(string) string, proxies ...string) error {
	argv, err := opener(raw, argv, env, proxies)
	if err != nil {
		return err
	}
	if run(ctx, byManager(argv)) == nil {
		return nil
	}
	return run(ctx, argv)
}

// byManager has systemd's user manager run a command, and tells how it ended (systemd-run(1)).
// The manager would end what the command leaves running, as xdg-open does with a
// browser, and would read a dollar as a variable's.
func byManager(argv []string) []string {
	line := []string{"systemd-run", "--user", "--collect", "--quiet", "--wait", "--property=KillMode=process", "--"}
	for _, word := range argv {
		line = append(line, strings.ReplaceAll(word, "$", "$$"))
	}
	return line
}

// opener returns the command that opens raw.
func opener(raw string, argv []string, env func(string) string, proxies []string) ([]string, error) {
	if err := Check(raw, proxies...); err != nil {
		return nil, err
	}
	if argv = withURL(argv, raw); len(argv) == 0 {
		argv = command(runtime.GOOS, env("BROWSER"), raw)
	}
	return argv, nil
}

// run starts a command, and reports what it fails with within openWait. The command
// outlives us: a browser started here is the user's.
func run(ctx context.Context, argv []string) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...)
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the browser: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timer := time.NewTimer(openWait)
	defer timer.Stop()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("run %s: %w", argv[0], err)
		}
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

// OpenWindow opens a loopback page in a window of its own, which is what browsers made of
// Chromium have, and else as [Open] does: so too when a command is given or BROWSER
// names one.
func OpenWindow(ctx context.Context, raw string, argv []string, env func(string) string) error {
	if err := Check(raw); err != nil {
		return err
	}
	if len(argv) == 0 && env("BROWSER") == "" {
		if path := chromium(runtime.GOOS, env); path != "" {
			argv = []string{path, "--app=%s"}
		}
	}
	return Open(ctx, raw, argv, env)
}

// chromium is a browser that has windows of one page; empty when there is none.
func chromium(goos string, env func(string) string) string {
	var candidates []string
	switch goos {
	case "windows":
		for _, dir := range []string{env("ProgramFiles(x86)"), env("ProgramFiles"), env("LOCALAPPDATA")} {
			if filepath.IsAbs(dir) {
				candidates = append(candidates, filepath.Join(dir, `Microsoft\Edge\Application\msedge.exe`), filepath.Join(dir, `Google\Chrome\Application\chrome.exe`))
			}
		}
	case "darwin":
		for _, name := range []string{"Google Chrome", "Chromium", "Microsoft Edge", "Brave Browser"} {
			candidates = append(candidates, "/Applications/"+name+".app/Contents/MacOS/"+name)
		}
	default:
		candidates = []string{"chromium", "google-chrome-stable", "google-chrome", "chromium-browser", "brave-browser", "microsoft-edge-stable", "vivaldi-stable"}
	}
	for _, name := range candidates {
		if path, err := exec.LookPath(name); err == nil && filepath.IsAbs(path) {
			return path
		}
	}
	return ""
}

// withURL puts the URL into a command; one without a program stays empty.
func withURL(command []string, raw string) []string {
	if len(command) == 0 {
		return nil
	}
	argv, placed := slices.Clone(command), false
	for i, arg := range argv {
		if strings.Contains(arg, "%s") {
			argv[i], placed = strings.ReplaceAll(arg, "%s", raw), true
		}
	}
	if !placed {
		argv = append(argv, raw)
	}
	return argv
}

// command returns the command that opens a URL, without a shell in between.
func command(goos, browser, raw string) []string {
	first, _, _ := strings.Cut(browser, ":")
	if goos == "windows" || goos == "darwin" {
		first = browser // there a colon does not part commands
		if path, err := exec.LookPath(browser); err == nil {
			return []string{path, raw} // a program's path, which there may have blanks in it
		}
	}
	if argv := withURL(strings.Fields(first), raw); len(argv) > 0 {
		return argv
	}
	switch goos {
	case "windows":
		return []string{"rundll32", "url.dll,FileProtocolHandler", raw}
	case "darwin":
		return []string{"open", raw}
	default:
		return []string{"xdg-open", raw}
	}
}
