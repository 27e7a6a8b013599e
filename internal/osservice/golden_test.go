package osservice

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestGolden(t *testing.T) {
	windows := Config{Name: "berth", Program: `C:\Program Files\berth\berth.exe`, Args: []string{"agent", "run", "--quiet"}}
	odd := Config{Name: "berth", Program: `C:\b\berth.exe`, Args: []string{"", `a "b" c\`, `d\e`, `\\x y\\`}}
	for name, got := range map[string]string{
		"berth.service": Unit(plain), "awkward.service": Unit(awkward),
		"berth.plist": plistOf(plain), "awkward.plist": plistOf(awkward),
		"berth.desktop": desktopEntry(plain), "awkward.desktop": desktopEntry(awkward),
		"run_key.txt": runKeyCommand(windows) + "\n" + runKeyCommand(odd) + "\n",
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, got) })
	}
}

// TestNoTemplate checks that nothing a user's paths hold reaches the template
// engine that writes units and plists.
func TestNoTemplate(t *testing.T) {
	for name, text := range map[string]string{"unit": Unit(awkward), "plist": plistOf(awkward)} {
		if strings.ContainsAny(text, "{}") {
			t.Errorf("the %s has braces:\n%s", name, text)
		}
	}
}

func TestProgramIsFoundAgain(t *testing.T) {
	for _, cfg := range []Config{plain, awkward} {
		if got := plistProgram([]byte(plistOf(cfg))); got != cfg.Program {
			t.Errorf("plistProgram() = %q, want %q", got, cfg.Program)
		}
		if got := desktopProgram(desktopEntry(cfg)); got != cfg.Program {
			t.Errorf("desktopProgram() = %q, want %q", got, cfg.Program)
		}
	}
	const windows = `C:\Program Files\berth\berth.exe`
	for _, command := range []string{runKeyCommand(Config{Program: windows, Args: []string{"x y"}}), `"` + windows + `"`} {
		if got := runKeyProgram(command); got != windows {
			t.Errorf("runKeyProgram(%q) = %q, want %q", command, got, windows)
		}
	}
	if got := runKeyProgram(`C:\berth.exe agent run`); got != `C:\berth.exe` {
		t.Errorf("runKeyProgram() = %q", got)
	}
}

func FuzzPlistProgram(f *testing.F) {
	f.Add(`/a b/<&>{{x}}]]>`, "")
	f.Add("", "</string><key>ProgramArguments</key>")
	f.Fuzz(func(t *testing.T, program, arg string) {
		xmlText := func(s string) bool {
			return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0xfffe || r == 0xffff })
		}
		if !xmlText(program) || !xmlText(arg) {
			return // XML has no way to write it
		}
		cfg := Config{Name: arg, Program: program, Args: []string{arg}, Env: []EnvVar{{arg, program}}}
		if got := plistProgram([]byte(plistOf(cfg))); got != program {
			t.Errorf("plistProgram() = %q, want %q", got, program)
		}
	})
}

func FuzzUnitQuote(f *testing.F) {
	f.Add(`/usr/bin/x y`)
	f.Add("a\x00%{}\"'\\")
	f.Fuzz(func(t *testing.T, s string) {
		if q := unitQuote(s); strings.ContainsAny(q, "\n\r{}\x00") {
			t.Errorf("unitQuote(%q) = %q", s, q)
		}
	})
}

func TestUnitStatus(t *testing.T) {
	const exec = "{ path=/opt/a b/berth ; argv[]=/opt/a b/berth agent run ; ignore_errors=no ; start_time=[n/a] ; pid=0 }"
	tests := map[string]struct {
		out  string
		want Status
	}{
		"not_there": {
			"LoadState=not-found\nActiveState=inactive\nSubState=dead\nMainPID=0\nUnitFileState=\nFragmentPath=\n",
			Status{Kind: KindSystemd},
		},
		"packaged_and_not_installed": {
			"LoadState=loaded\nActiveState=inactive\nSubState=dead\nMainPID=0\nUnitFileState=disabled\nFragmentPath=/usr/lib/systemd/user/berth.service\n",
			Status{Kind: KindSystemd, File: "/usr/lib/systemd/user/berth.service"},
		},
		"runs": {
			"LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nMainPID=812\nUnitFileState=enabled\n" +
				"FragmentPath=/home/a/.config/systemd/user/berth.service\nExecStart=" + exec + "\n" +
				"ExecMainStartTimestampMonotonic=1000000\nActiveEnterTimestampMonotonic=1042500\n",
			Status{
				Kind: KindSystemd, Installed: true, Enabled: true, File: "/home/a/.config/systemd/user/berth.service",
				Program: "/opt/a b/berth", Running: true, PID: 812, ReadyAfter: 42500 * time.Microsecond,
			},
		},
		"own_and_disabled": {
			"LoadState=loaded\nActiveState=inactive\nSubState=dead\nMainPID=0\nUnitFileState=disabled\nFragmentPath=/home/a/.config/systemd/user/berth.service\n",
			Status{Kind: KindSystemd, Installed: true, File: "/home/a/.config/systemd/user/berth.service"},
		},
		"between_two_tries": {
			"LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nResult=exit-code\nMainPID=0\nUnitFileState=enabled\nFragmentPath=/home/a/u\n",
			Status{
				Kind: KindSystemd, Installed: true, Enabled: true, File: "/home/a/u",
				Trouble: "it failed (exit-code) and is about to be started again",
			},
		},
		"starting": {
			"LoadState=loaded\nActiveState=activating\nSubState=start\nResult=success\nMainPID=9\nUnitFileState=enabled\nFragmentPath=/home/a/u\n",
			Status{
				Kind: KindSystemd, Installed: true, Enabled: true, File: "/home/a/u", Running: true, PID: 9,
				Trouble: "it is starting, and not ready yet",
			},
		},
		"failed": {
			"LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=timeout\nMainPID=0\nUnitFileState=enabled\nFragmentPath=/home/a/u\n",
			Status{Kind: KindSystemd, Installed: true, Enabled: true, File: "/home/a/u", Trouble: "it failed: timeout"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, unitStatus(properties(tt.out))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLaunchdList(t *testing.T) {
	tests := map[string]struct {
		out     string
		pid     int
		trouble string
	}{
		"runs":    {"{\n\t\"LastExitStatus\" = 256;\n\t\"PID\" = 812;\n};\n", 812, ""},
		"stopped": {"{\n\t\"LastExitStatus\" = 0;\n};\n", 0, ""},
		"failed":  {"{\n\t\"LastExitStatus\" = 256;\n};\n", 0, "it failed with status 1, and is started again"},
		"killed":  {"{\n\t\"LastExitStatus\" = 9;\n};\n", 0, "signal 9 (killed) ended it, and it is started again"},
		"dumped":  {"{\n\t\"LastExitStatus\" = 139;\n};\n", 0, "signal 11 (segmentation fault) ended it, and it is started again"},
		"nothing": {"", 0, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if pid, trouble := launchdList(tt.out); pid != tt.pid || trouble != tt.trouble {
				t.Errorf("launchdList() = %d, %q, want %d, %q", pid, trouble, tt.pid, tt.trouble)
			}
		})
	}
}

func TestSwitchedOff(t *testing.T) {
	for value, want := range map[string]bool{"": false, "\x02\x00": false, "\x03\x00\x00": true, "\x06": false, "\x07": true} {
		if got := switchedOff([]byte(value)); got != want {
			t.Errorf("switchedOff(%x) = %v, want %v", value, got, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"relative_program": {Name: "berth", Program: "berth"},
		"no_name":          {Program: PackagedProgram},
		"odd_name":         {Name: "a/b", Program: PackagedProgram},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(cfg); err == nil {
				t.Error("New took it")
			}
		})
	}
}
