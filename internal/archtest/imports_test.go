package archtest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A rule says which packages a package may not reach, not even through
// others, and why.
type rule struct {
	pkgs   []string // import paths, or prefixes ending in "/..."
	never  []string // the same
	except []string
	why    string
}

var rules = []rule{
	{
		pkgs:  []string{"berth/agent/state"},
		never: []string{"berth/...", "github.com/...", "golang.org/...", "google.golang.org/..."},
		why:   "agent/state holds plain values: it imports the standard library only",
	},
	{
		pkgs:  []string{"berth/tray/...", "berth/notify/...", "berth/agent/ipc/client"},
		never: []string{"berth/certwatch", "berth/proxies/...", "berth/agent/cluster", "berth/agent/secrets", "berth/agent", "github.com/gravitational/..."},
		why:   "a front end never reaches a credential",
	},
	{
		pkgs:   []string{"berth/tray/window"},
		never:  []string{"berth/agent/...", "berth/tray", "berth/notify/...", "berth/internal/browser", "os/exec"},
		except: []string{"berth/agent/state", "berth/agent/ipc", "berth/agent/ipc/berthv1", "berth/agent/ipc/client"},
		why:    "the window speaks to the agent by its client alone, and starts nothing",
	},
	{
		pkgs:   []string{"berth/certwatch", "berth/proxies/..."},
		never:  []string{"berth/agent/..."},
		except: []string{"berth/agent/state"},
		why:    "certwatch and proxies know nothing of the agent: they are handed values and funcs",
	},
	{
		pkgs:  []string{"berth/proxies", "berth/proxies/db", "berth/proxies/guard", "berth/proxies/kube/..."},
		never: []string{"berth/proxies/route", "github.com/gravitational/...", "google.golang.org/grpc/...", "github.com/gobwas/..."},
		why:   "proxies carry what they are handed: the way through Teleport is proxies/route's",
	},
	{
		pkgs:   []string{"berth/internal/clientfiles"},
		never:  []string{"berth/agent/...", "berth/proxies", "berth/proxies/route", "google.golang.org/grpc/..."},
		except: []string{"berth/agent/state"},
		why:    "clientfiles reads and writes files: it is handed tunnels and never asks the agent",
	},
	{
		pkgs:  []string{"berth/internal/link"},
		never: []string{"berth/...", "github.com/...", "golang.org/..."},
		why:   "link reads what strangers wrote: it is a parser and can do nothing",
	},
	{
		pkgs:   []string{"berth/internal/replay/..."},
		never:  []string{"berth/agent/...", "google.golang.org/grpc/...", "github.com/gravitational/...", "net/http"},
		except: []string{"berth/agent/state"},
		why:    "replay is pure: it is handed events and asks nothing of anyone",
	},
	{
		pkgs:  []string{"berth/internal/patterns", "berth/internal/patterns/direct/...", "berth/internal/patterns/cmd/direct"},
		never: []string{"github.com/gravitational/...", "github.com/gogo/...", "berth/agent/...", "berth/certwatch"},
		why:   "patterns/direct is measured without anything of Teleport's",
	},
	{
		pkgs:  []string{"berth/internal/patterns/tsh", "berth/internal/patterns/cmd/tsh"},
		never: []string{"github.com/gravitational/...", "google.golang.org/grpc/...", "berth/agent/cluster", "berth/certwatch"},
		why:   "patterns/tsh is measured with nothing but the running of tsh",
	},
	{
		pkgs:  []string{"berth/cmd/...", "berth/agent/...", "berth/tray/..."},
		never: []string{"berth/internal/patterns/..."},
		why:   "patterns are there to be compared: berth uses agent/tsh and agent/cluster",
	},
	{
		pkgs:  []string{"berth/..."},
		never: []string{"github.com/gravitational/teleport/lib/...", "github.com/gravitational/teleport/tool/..."},
		why:   "of Teleport only the api module may be imported",
	},
}

// TestImports walks everything each package reaches, through others too.
func TestImports(t *testing.T) {
	for pkg, deps := range reachable(t) {
		for _, r := range rules {
			if !matches(pkg, r.pkgs) {
				continue
			}
			for _, dep := range deps {
				if dep != pkg && matches(dep, r.never) && !matches(dep, r.except) {
					t.Errorf("%s reaches %s: %s", pkg, dep, r.why)
				}
			}
		}
	}
}

// TestSimulationStaysOut checks that nothing imports a main package's folder,
// that the simulation stays out of everything that is installed, and that only
// the demo, not even a test's simulation, links a database server.
func TestSimulationStaysOut(t *testing.T) {
	demo := []string{"berth/internal/demo/...", "berth/cmd/berth-demo"}
	for pkg, deps := range reachable(t) {
		for _, dep := range deps {
			simulation := matches(dep, []string{"berth/internal/simcluster/...", "berth/internal/simworld", "berth/internal/demo/...", "berth/cmd/..."})
			if simulation && !matches(pkg, append(demo, "berth/internal/...")) {
				t.Errorf("%s reaches %s: the simulation is for the demo and for tests", pkg, dep)
			}
			if matches(dep, []string{"github.com/dolthub/...", "github.com/alicebob/..."}) && !matches(pkg, demo) {
				t.Errorf("%s reaches %s: it is for the demo alone", pkg, dep)
			}
		}
	}
}

// TestNoScriptsOnWindows: these libraries show a toast by a PowerShell script
// made of its words when the usual way fails.
func TestNoScriptsOnWindows(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "berth/cmd/berth")
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	linked := strings.Fields(string(out))
	if !slices.Contains(linked, "git.sr.ht/~jackmordaunt/go-toast/v2/wintoast") {
		t.Error("what berth shows toasts with is another library: see that it runs no script")
	}
	for _, pkg := range []string{"github.com/gen2brain/beeep", "git.sr.ht/~jackmordaunt/go-toast", "git.sr.ht/~jackmordaunt/go-toast/v2"} {
		if slices.Contains(linked, pkg) {
			t.Errorf("berth.exe links %s", pkg)
		}
	}
}

// reachable returns, for each package of the module, everything it imports.
func reachable(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, "berth/...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	pkgs := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkgs[fields[0]] = fields[1:]
	}
	if len(pkgs["berth/agent/state"]) == 0 {
		t.Fatal("go list found no berth/agent/state: the rules check nothing")
	}
	return pkgs
}

func matches(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, wild := strings.CutSuffix(p, "/...")
		return pkg == prefix || (wild && strings.HasPrefix(pkg, prefix+"/"))
	})
}
