package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The script installs from files that are served on loopback, and refuses
// those that were changed.
func TestInstallScript(t *testing.T) {
	for _, tool := range []string{"sh", "curl", "sha256sum", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("install.sh is tried with %s: %v", tool, err)
		}
	}
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, dir string)
		hide  []string // programs that the script does not find
		args  []string
		want  string // in the output
		fails bool
	}{
		"fine":             {want: "berth 1.2.3 is "},
		"without_minisign": {hide: []string{"minisign"}, want: "berth 1.2.3 is "},
		"without_any":      {hide: []string{"minisign", "openssl"}, want: "nothing here can check the signature", fails: true},
		"checksum_only":    {hide: []string{"minisign", "openssl"}, args: []string{"--checksum-only"}, want: "berth 1.2.3 is "},
		"changed_archive": {spoil: func(t *testing.T, dir string) {
			files, _ := filepath.Glob(filepath.Join(dir, "*_linux_*.tar.gz"))
			for _, f := range files {
				if err := os.WriteFile(f, []byte("evil"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}, want: "the checksum of berth_1.2.3_linux_", fails: true},
		"changed_sums":         {spoil: changeSums, want: "the signature of the checksums is WRONG", fails: true},
		"changed_sums_openssl": {spoil: changeSums, hide: []string{"minisign"}, want: "the signature of the checksums is WRONG", fails: true},
		"unknown_option":       {args: []string{"--now"}, want: "unknown option --now", fails: true},
		"uninstall_nothing":    {args: []string{"--uninstall"}, want: "nothing that this script installed", fails: true},
		"folder_not_absolute":  {args: []string{"--prefix", "x"}, want: "must be absolute", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := served(t, nil)
			if tt.spoil != nil {
				tt.spoil(t, p.out)
			}
			home := t.TempDir()
			path := toolsWithout(t, tt.hide)
			run := func(args ...string) (string, error) {
				cmd := exec.CommandContext(t.Context(), "sh", append([]string{filepath.Join(p.out, "install.sh")}, args...)...)
				cmd.Env = []string{"HOME=" + home, "PATH=" + path, "TMPDIR=" + t.TempDir()}
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			out, err := run(tt.args...)
			if !strings.Contains(out, tt.want) || (err != nil) != tt.fails {
				t.Fatalf("install.sh %v: %v\n%s", tt.args, err, out)
			}
			if tt.fails {
				if left, _ := os.ReadDir(home); len(left) > 0 {
					t.Errorf("it failed and left %v", left)
				}
				return
			}
			for _, file := range []string{"bin/berth", "share/man/man1/berth.1", "share/man/man5/berth.yaml.5", "share/bash-completion/completions/berth"} {
				if _, err := os.Stat(filepath.Join(home, ".local", file)); err != nil {
					t.Error(err)
				}
			}
			older := filepath.Join("share", "man", "man1", "berth-older.1")
			list, err := os.OpenFile(filepath.Join(home, ".local", "share", "berth", "installed"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := list.WriteString(older + "\n"); err != nil || list.Close() != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(home, ".local", older), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := run(tt.args...); err != nil {
				t.Errorf("a second time: %v\n%s", err, out)
			}
			if _, err := os.Stat(filepath.Join(home, ".local", older)); !os.IsNotExist(err) {
				t.Errorf("what only an earlier version had is left: %v", err)
			}
			if out, err := run("--uninstall"); err != nil || !strings.Contains(out, "berth 1.2.3 uninstall") {
				t.Errorf("install.sh --uninstall: %v\n%s", err, out)
			}
			_ = filepath.WalkDir(home, func(path string, d os.DirEntry, _ error) error {
				if !d.IsDir() {
					t.Errorf("left behind: %s", path)
				}
				return nil
			})
		})
	}
}

// TestInstallScriptInterrupted: what an installation that did not end has left can be
// removed.
func TestInstallScriptInterrupted(t *testing.T) {
	p := served(t, nil)
	home := t.TempDir()
	inTheWay := filepath.Join(home, ".local", "share", "zsh")
	if err := os.MkdirAll(filepath.Dir(inTheWay), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "sh", append([]string{filepath.Join(p.out, "install.sh")}, args...)...)
		cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir()}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(); err == nil {
		t.Fatalf("it installed below a file:\n%s", out)
	}
	if out, err := run("--uninstall"); err != nil {
		t.Errorf("install.sh --uninstall: %v\n%s", err, out)
	}
	_ = filepath.WalkDir(home, func(path string, d os.DirEntry, _ error) error {
		if !d.IsDir() && path != inTheWay {
			t.Errorf("left behind: %s", path)
		}
		return nil
	})
}

// TestInstallScriptSignalled: Ctrl-C and other signals during a download leave nothing of
// it, in shells whose EXIT trap is not run for them, too.
func TestInstallScriptSignalled(t *testing.T) {
	for sig, code := range map[syscall.Signal]int{syscall.SIGHUP: 129, syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		t.Run(sig.String(), func(t *testing.T) {
			if signal.Ignored(sig) {
				// As in the background of a shell. The script would inherit it, and a shell cannot
				// undo what it was started with.
				signal.Notify(make(chan os.Signal, 1), sig)
				t.Cleanup(func() { signal.Ignore(sig) })
			}
			downloads := make(chan struct{}, 1)
			p := served(t, func(r *http.Request) {
				if strings.HasSuffix(r.URL.Path, ".tar.gz") {
					downloads <- struct{}{}
					<-r.Context().Done() // curl is gone
				}
			})
			home, tmp := t.TempDir(), t.TempDir()
			cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(p.out, "install.sh"))
			cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + tmp}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a terminal's foreground job
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case <-downloads:
			case err := <-ended:
				t.Fatalf("it ended before it downloaded the archive: %v", err)
			}
			if err := syscall.Kill(-cmd.Process.Pid, sig); err != nil {
				t.Fatal(err)
			}
			<-ended
			if got := cmd.ProcessState.ExitCode(); got != code {
				t.Errorf("it ended with %v, want exit code %d", cmd.ProcessState, code)
			}
			for _, dir := range []string{home, tmp} {
				if left, _ := os.ReadDir(dir); len(left) > 0 {
					t.Errorf("it left %v", left)
				}
			}
		})
	}
}

// served is a release that can be downloaded from loopback; what is not nil is called
// ahead of each answer.
func served(t *testing.T, ahead func(*http.Request)) *publication {
	t.Helper()
	p := released(t)
	files := http.FileServer(http.Dir(p.out))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ahead != nil {
			ahead(r)
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.downloads = server.URL
	if err := p.finish(); err != nil {
		t.Fatal(err)
	}
	return p
}

func changeSums(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, sumsFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("0000  evil\n")
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
}

// toolsWithout is a PATH with the usual programs but some.
func toolsWithout(t *testing.T, hidden []string) string {
	t.Helper()
	dir := t.TempDir()
	for _, from := range []string{"/usr/bin", "/bin"} {
		entries, err := os.ReadDir(from)
		if err != nil {
			continue
		}
	next:
		for _, e := range entries {
			for _, h := range hidden {
				if e.Name() == h {
					continue next
				}
			}
			_ = os.Symlink(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name())) // both folders may have it
		}
	}
	return dir
}
