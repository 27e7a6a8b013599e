//go:build !windows && !darwin

package prompt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/testwait"
)

// desktop makes a display that answers and a folder with programs, which are
// shell scripts, and nothing else of this machine.
func desktop(t *testing.T, programs map[string]string) (folder string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "desk") // t.TempDir's names may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	listener, err := net.Listen("unix", filepath.Join(folder, "wayland-9"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	for name, script := range programs {
		script = fmt.Sprintf("#!/bin/sh\nfor a in \"$@\"; do printf '%%s\\n' \"$a\"; done > %s/args\n%s\n", folder, script)
		if err := os.WriteFile(filepath.Join(folder, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", folder)
	t.Setenv("DISPLAY", "")
	t.Setenv("WAYLAND_DISPLAY", "wayland-9")
	t.Setenv("XDG_RUNTIME_DIR", folder)
	t.Setenv("XDG_CURRENT_DESKTOP", "XFCE")
	return folder
}

func arguments(t *testing.T, folder string) string {
	t.Helper()
	args, err := os.ReadFile(filepath.Join(folder, "args"))
	if err != nil {
		t.Fatal(err)
	}
	return string(args)
}

func TestDialogPrograms(t *testing.T) {
	q := Question{Title: "Log in to example.com", Text: "Password of <b>alice</b> & co_op\nsecond", OK: "Log in", Cancel: "Not now"}
	type outcome struct {
		answer   string
		canceled bool
		text     string // of the error
	}
	scripts := []struct {
		name, script string
		want         outcome
	}{
		{"answers", "echo ' hunter2 '", outcome{answer: " hunter2 "}},
		{"nothing_typed", "echo", outcome{}},
		{"canceled", "exit 1", outcome{canceled: true}},
		{"breaks", "echo first >&2; echo 'cannot \033[31mdraw' >&2; exit 3", outcome{text: "cannot draw"}},
	}
	ask := map[kind]func(*Asker) (string, error){
		kindPassword: func(a *Asker) (string, error) { return a.Password(t.Context(), q) },
		kindCode:     func(a *Asker) (string, error) { return a.Code(t.Context(), q) },
		kindConfirm:  func(a *Asker) (string, error) { return "", a.Confirm(t.Context(), q) },
	}
	for _, program := range []string{"zenity", "kdialog"} {
		for k, ask := range ask {
			for _, tt := range scripts {
				t.Run(program+"/"+string(k)+"/"+tt.name, func(t *testing.T) {
					folder := desktop(t, map[string]string{program: tt.script})
					answer, err := ask(New(Config{Logger: testLog(t)}))
					if k == kindConfirm {
						tt.want.answer = ""
					}
					if answer != tt.want.answer || errors.Is(err, ErrCanceled) != tt.want.canceled ||
						(err == nil) != (tt.want.text == "" && !tt.want.canceled) {
						t.Errorf("got %q, %v, want %+v", answer, err, tt.want)
					}
					if err != nil && !strings.Contains(err.Error(), tt.want.text) {
						t.Errorf("error %q does not say %q", err, tt.want.text)
					}
					args := arguments(t, folder)
					for _, want := range []string{q.Title, q.OK, q.Cancel, "alice"} {
						if !strings.Contains(args, want) {
							t.Errorf("%s was not given %q: %q", program, want, args)
						}
					}
					if strings.Contains(args, "hunter2") {
						t.Errorf("the secret is in the arguments: %q", args)
					}
					if program == "kdialog" && strings.Contains(args, "<b>") {
						t.Errorf("markup in %q", args)
					}
				})
			}
		}
	}
}

// TestOtherDialogs: what they print is understood, whichever program draws them.
func TestOtherDialogs(t *testing.T) {
	q := Question{Title: "Which?", Text: "<b>a_b</b>", OK: "Go", Initial: "ali_ce", Choices: []string{"one", "two & 2"}}
	for _, program := range []string{"zenity", "kdialog"} {
		t.Run(program, func(t *testing.T) {
			folder := desktop(t, map[string]string{program: "echo 'two & 2'"})
			a := New(Config{Logger: testLog(t), Icon: "/icon.png"})
			if i, err := a.Choose(t.Context(), q); i != 1 || err != nil {
				t.Errorf("Choose() = %d, %v", i, err)
			}
			if text, err := a.Text(t.Context(), q); text != "two & 2" || err != nil {
				t.Errorf("Text() = %q, %v", text, err)
			}
			if args := arguments(t, folder); !strings.Contains(args, "ali_ce") {
				t.Errorf("the field begins empty: %q", args)
			}
			if c, err := a.Login(t.Context(), q); c != (Credentials{Password: "two & 2"}) || err != nil {
				t.Errorf("Login() = %+v, %v", c, err)
			}
			if program == "zenity" && !strings.Contains(arguments(t, folder), "/icon.png") {
				t.Error("the dialog has no icon")
			}
		})
	}
	t.Run("nothing_chosen", func(t *testing.T) {
		desktop(t, map[string]string{"zenity": "echo"})
		if _, err := New(Config{Logger: testLog(t)}).Choose(t.Context(), q); !errors.Is(err, ErrCanceled) {
			t.Errorf("Choose() = %v, want ErrCanceled", err)
		}
	})
}

// TestLoginOptions: another user is named and the password kept, by the third
// button.
func TestLoginOptions(t *testing.T) {
	folder := desktop(t, nil)
	script := fmt.Sprintf(`#!/bin/sh
n=0; [ -f %[1]s/n ] && read -r n < %[1]s/n
n=$((n+1)); echo $n > %[1]s/n
case $n in
1|3) echo 'Options…'; exit 1 ;;
2) echo '%[2]s' ;;
4) echo '%[3]s' ;;
5) echo bob ;;
6) case "$*" in *'User: bob'*) echo secret ;; esac ;;
esac
`, folder, keep, otherUser)
	if err := os.WriteFile(filepath.Join(folder, "zenity"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Logger: testLog(t)}).Login(t.Context(), Question{Title: "x", Text: "y", Initial: "alice"})
	if want := (Credentials{User: "bob", Password: "secret", Remember: true}); c != want || err != nil {
		t.Errorf("Login() = %+v, %v, want %+v", c, err, want)
	}
}

// TestReport: a long text goes to the program whole, not in its arguments, and
// the buttons are told apart.
func TestReport(t *testing.T) {
	long := strings.Repeat("a line <b> & so on\n", 2000)
	for name, c := range map[string]struct {
		script string
		want   error
	}{"copy": {"/bin/cat > @/input", nil}, "close": {"exit 1", ErrCanceled}} {
		t.Run(name, func(t *testing.T) {
			folder := desktop(t, map[string]string{"zenity": ""})
			script := "#!/bin/sh\n" + strings.ReplaceAll(c.script, "@", folder) + "\n"
			if err := os.WriteFile(filepath.Join(folder, "zenity"), []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := New(Config{Logger: testLog(t)}).Report(t.Context(), Question{Title: "Report", Text: long + "\x1b[31mend"}); !errors.Is(err, c.want) {
				t.Errorf("Report() = %v, want %v", err, c.want)
			}
			if c.want != nil {
				return
			}
			got, err := os.ReadFile(filepath.Join(folder, "input"))
			if err != nil || string(got) != long+"end" {
				t.Errorf("the program got %d bytes that end in %.20q, %v", len(got), got[max(0, len(got)-20):], err)
			}
		})
	}
}

func TestProgramChosen(t *testing.T) {
	tests := []struct {
		name, desktop string
		installed     []string
		want          string
	}{
		{"kde", "KDE", []string{"zenity", "kdialog"}, "kdialog"},
		{"kde_without", "KDE", []string{"zenity"}, "zenity"},
		{"gnome", "ubuntu:GNOME", []string{"zenity", "kdialog"}, "zenity"},
		{"only_kdialog", "XFCE", []string{"kdialog"}, "kdialog"},
		{"none", "XFCE", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			programs := map[string]string{}
			for _, name := range tt.installed {
				programs[name] = ""
			}
			desktop(t, programs)
			t.Setenv("XDG_CURRENT_DESKTOP", tt.desktop)
			got, err := program()
			var unavailable *UnavailableError
			if got != tt.want || (err != nil) != (tt.want == "") || (err != nil && (!errors.As(err, &unavailable) || !strings.Contains(unavailable.Hint, "install"))) {
				t.Errorf("program() = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestDisplay(t *testing.T) {
	tests := []struct {
		name, x11, wayland string
		ok                 bool
	}{
		{"none", "", "", false},
		{"wayland", "", "wayland-9", true},
		{"wayland_gone", "", "wayland-8", false},
		{"x11_gone", ":64999", "", false},
		{"screen_of_x11_gone", "unix:64999.0", "", false},
		{"elsewhere", "localhost:10.0", "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			desktop(t, map[string]string{"zenity": ""})
			t.Setenv("DISPLAY", tt.x11)
			t.Setenv("WAYLAND_DISPLAY", tt.wayland)
			err := New(Config{Logger: testLog(t)}).Available()
			var unavailable *UnavailableError
			if (err == nil) != tt.ok || (err != nil && (!errors.As(err, &unavailable) || unavailable.Hint == "")) {
				t.Errorf("Available() = %v, want %v", err, tt.ok)
			}
		})
	}
}

func TestClosesTheDialog(t *testing.T) {
	for _, program := range []string{"zenity", "kdialog"} {
		t.Run(program, func(t *testing.T) {
			sleep, err := exec.LookPath("sleep")
			if err != nil {
				t.Fatal(err)
			}
			desktop(t, map[string]string{program: "exec " + sleep + " 60"})
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err = New(Config{Logger: testLog(t)}).Password(ctx, Question{Text: "x"})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Password() = %v, want that time ran out", err)
			}
			testwait.Soon(t, "Password()", time.Since(start), 10*time.Second)
		})
	}
}
