// Package testneeds skips tests that lack what they need, and says so in one
// spelling, "needs WHAT: WHY OR WHAT TO DO", by which "make test" lists them.
// What "make test-deps" installs must be there where the variable CI is set:
// without it the test fails.
package testneeds

import (
	"cmp"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// packages are the Debian packages of programs that are named otherwise.
var packages = map[string]string{
	"psql": "postgresql-client", "pg_isready": "postgresql-client", "pgbench": "postgresql-contrib",
	"initdb": "postgresql", "postgres": "postgresql",
	"mysql": "mariadb-client", "my_print_defaults": "mariadb-client", "redis-cli": "redis-tools", "tsql": "freetds-bin",
	"mariadb": "mariadb-client", "mariadbd": "mariadb-server", "mariadb-install-db": "mariadb-server", "Python's pymysql": "python3-pymysql", "Python's redis": "python3-redis",
	"Xvfb": "xvfb", "dbus-daemon": "dbus", "gnome-keyring-daemon": "gnome-keyring", "go": "golang-go", "sh": "dash",
}

// RaceOptions is GORACE for the programs that a test starts. Under the race detector
// they sleep for a second at their end by default, and start in ten thousand small
// pages, a third of which huge ones save.
const RaceOptions = "atexit_sleep_ms=0 no_huge_pages_for_shadow=0"

// Program returns the path of a program.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	Tool(t, name, err)
	return path
}

// Tool goes on if err, the result of looking for a program, is nil.
func Tool(t testing.TB, what string, err error) {
	t.Helper()
	pkg := cmp.Or(packages[what], what)
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("needs %s: install %s, as make test-deps does (%v)", what, pkg, err)
	default:
		t.Skipf("needs %s: install %s, as make test-deps does (%v)", what, pkg, err)
	}
}

// Python returns the path of a Python that has a module.
func Python(t testing.TB, module string) string {
	t.Helper()
	var err error
	for _, name := range []string{"python3", "/usr/bin/python3"} { // the first may be a user's own
		var path string
		if path, err = exec.LookPath(name); err == nil {
			if err = exec.CommandContext(t.Context(), path, "-c", "import "+module).Run(); err == nil {
				return path
			}
		}
	}
	Tool(t, "Python's "+module, err)
	return ""
}

// Root goes on as root alone.
func Root(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Skip(t, "root", why)
	}
}

// Unix goes on anywhere but on Windows.
func Unix(t testing.TB, why string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		Skip(t, "Unix", why)
	}
}

// Time goes on unless the tests are to be short.
func Time(t testing.TB, why string) {
	t.Helper()
	if testing.Short() {
		Skip(t, "time", "run without -short; "+why)
	}
}

// Here goes on if err is nil. err is the result of something that not every
// machine allows.
func Here(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		Skip(t, what, err.Error())
	}
}

// Skip skips the test.
func Skip(t testing.TB, what, why string) {
	t.Helper()
	t.Skipf("needs %s: %s", what, why)
}

// Part is how often a test that only computes does so. Under the race detector, which
// makes that ten times as slow and sees nothing in it, this is a fifth of the whole;
// "make test-whole" does all of it.
func Part(whole int) int {
	if Race {
		return max(1, whole/5)
	}
	return whole
}
