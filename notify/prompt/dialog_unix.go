//go:build !windows && !darwin

package prompt

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"berth/notify/internal/words"
)

const (
	dialTime   = time.Second     // for a display to answer
	leaveTime  = 2 * time.Second // for a killed dialog's pipes
	hintStatus = `answer in a terminal: "berth login"`
)

// zenities are the programs that the library drives, in its order.
var zenities = []string{"qarma", "zenity", "matedialog"}

// available returns nil when there is a display and a program for dialogs.
func available() error {
	if err := display(); err != nil {
		return err
	}
	_, err := program()
	return err
}

func (d dialogs) show(ctx context.Context, k kind, q Question) (string, error) {
	name, err := program()
	switch {
	case err != nil:
		return "", err
	case name == "kdialog":
		return kdialog(ctx, k, q)
	case k == kindReport:
		return "", d.textInfo(ctx, name, q)
	default:
		return d.zenity(ctx, k, q)
	}
}

// textInfo shows a text that scrolls.
func (d dialogs) textInfo(ctx context.Context, program string, q Question) error {
	_, err := run(ctx, program, q.Text, append(d.arguments(q), "--text-info", "--width=680", "--height=440")...)
	return err
}

// arguments are those of every dialog of zenity's.
func (d dialogs) arguments(q Question) []string {
	args := []string{"--title=" + q.Title}
	if d.icon != "" {
		args = append(args, "--window-icon="+d.icon)
	}
	if q.OK != "" {
		args = append(args, "--ok-label="+mnemonics(q.OK))
	}
	if q.Cancel != "" {
		args = append(args, "--cancel-label="+mnemonics(q.Cancel))
	}
	return args
}

// mnemonics has zenity draw an underscore as one.
func mnemonics(s string) string { return strings.ReplaceAll(s, "_", "__") }

// program returns the program that draws dialogs: the desktop's own, if there
// is one.
func program() (string, error) {
	order := append([]string(nil), zenities...)
	if strings.Contains(strings.ToUpper(os.Getenv("XDG_CURRENT_DESKTOP")), "KDE") {
		order = append([]string{"kdialog"}, order...)
	} else {
		order = append(order, "kdialog")
	}
	for _, name := range order {
		if _, err := exec.LookPath(name); err == nil {
			return name, nil
		}
	}
	return "", &UnavailableError{
		Reason: "there is no program for dialogs (looked for " + strings.Join(order, ", ") + ")",
		Hint:   "install zenity or kdialog, or " + hintStatus,
	}
}

// localDisplay is a display of this machine, and its number.
var localDisplay = regexp.MustCompile(`^(?:unix)?:(\d{1,5})(?:\.\d+)?$`)

// display returns nil when a display answers. The dialog programs say about one
// that does not what they say when the person cancels.
func display() error {
	x11, wayland := os.Getenv("DISPLAY"), os.Getenv("WAYLAND_DISPLAY")
	if x11 == "" && wayland == "" {
		return &UnavailableError{Reason: "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)", Hint: hintStatus}
	}
	if wayland != "" {
		if !filepath.IsAbs(wayland) {
			wayland = filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), wayland)
		}
		if answers(wayland) {
			return nil
		}
	}
	if x11 != "" {
		m := localDisplay.FindStringSubmatch(x11)
		if m == nil {
			return nil // elsewhere, such as through ssh: the program will see
		}
		socket := "/tmp/.X11-unix/X" + m[1]
		if answers("@"+socket) || answers(socket) {
			return nil
		}
	}
	return &UnavailableError{Reason: "the display does not answer", Hint: hintStatus}
}

func answers(socket string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// kdialog shows a dialog of KDE's. It takes texts for HTML where they look
// like it: here they always are, with everything escaped.
func kdialog(ctx context.Context, k kind, q Question) (string, error) {
	text := "<qt>" + strings.ReplaceAll(words.Escape(q.Text), "\n", "<br/>") + "</qt>"
	args := []string{"--title", q.Title}
	ok, cancel := "--ok-label", "--cancel-label"
	input := ""
	switch k {
	case kindPassword, kindLogin: // it has no further buttons
		args = append(args, "--password", text)
	case kindCode:
		args = append(args, "--inputbox", text, "")
	case kindText:
		args = append(args, "--inputbox", text, q.Initial)
	case kindChoice:
		args = append(append(args, "--combobox", text), q.Choices...)
	case kindConfirm:
		args = append(args, "--warningyesno", text)
		ok, cancel = "--yes-label", "--no-label"
	case kindReport:
		args, input = append(args, "--textbox", "-", "680", "440"), q.Text
	}
	if q.OK != "" && k != kindReport {
		args = append(args, ok, q.OK)
	}
	if q.Cancel != "" && k != kindReport {
		args = append(args, cancel, q.Cancel)
	}
	answer, err := run(ctx, "kdialog", input, args...)
	if err == nil && k == kindReport {
		err = ErrCanceled // its one button closes it
	}
	return answer, err
}

// run runs a dialog program and returns what it prints.
func run(ctx context.Context, program, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = leaveTime
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return "", ErrCanceled
	case err != nil:
		return "", failed(program, err)
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}
