package db

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"berth/internal/clientenv"
)

// program is a client of a protocol, and how it is led to a tunnel. One
// without arguments obeys the environment before all else.
type program struct {
	names []string
	// args returns what a tunnel's clients are given right after the program's
	// name, where it beats everything but the arguments that follow.
	args func(x execution) ([]string, error)
	// leading returns how many of the given arguments must stay in front of
	// args; nil means none.
	leading func(given []string) int
	// last has args follow what was given: the program looks for them there.
	last bool
	// clear are variables beside the protocol's that the program would obey.
	clear []string
	// refuse is why the program cannot be led anywhere; empty means that it can.
	refuse string
}

// execution is one start of a program.
type execution struct {
	Endpoint
	path  string   // of the program's file
	given []string // its arguments
	env   []string
	dir   string // see Exec
}

// xmlComment is left out when a file is looked at.
var xmlComment = regexp.MustCompile(`(?s)<!--.*?-->`)

// own returns those of the user's files that match; names are paths in the home of
// x.env, or absolute.
func (x execution) own(match *regexp.Regexp, names ...string) []string {
	home := "HOME"
	if runtime.GOOS == "windows" {
		home = "USERPROFILE"
	}
	var dir string
	for _, kv := range x.env {
		if name, value, _ := strings.Cut(kv, "="); strings.EqualFold(name, home) {
			dir = value
		}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, filepath.FromSlash(name))
		}
		text, err := os.ReadFile(name)
		return err != nil || !match.Match(xmlComment.ReplaceAll(text, nil))
	})
}

// write makes a file for the program, and returns its path.
func (x execution) write(name, text string) (string, error) {
	file := filepath.Join(x.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("make a file for the client: %w", err)
	}
	return file, nil
}

// always has a program get the same arguments whatever it was given.
func always(args func(Endpoint) []string) func(execution) ([]string, error) {
	return func(x execution) ([]string, error) { return args(x.Endpoint), nil }
}

// Command is a program that is to be started so that it leads to a tunnel.
type Command struct {
	Argv []string
	Env  []string
	// Known reports whether berth knows how the program finds its server. One it
	// does not know may obey none of Env.
	Known bool
}

// Exec returns how to start argv, the file at path, so that it leads to e,
// whatever else environ and the files of its user say. dir is a folder for
// files that the program reads, to be removed after its end. A program that
// cannot be led to e is a *LeadError.
func (p Protocol) Exec(e Endpoint, path string, argv, environ []string, dir string) (Command, error) {
	env, err := p.Env(e)
	if err != nil {
		return Command{}, err
	}
	if jdbc := p.client.text[JDBC]; jdbc != nil && p.refuses(JDBC, e) == nil {
		for _, name := range javaURLs {
			env = append(env, name+"="+jdbc(e))
		}
	}
	if p.client.files != nil {
		vars, err := p.client.files(e, dir)
		if err != nil {
			return Command{}, err
		}
		env = append(env, vars...)
	}
	c, known := p.program(argv[0], path)
	switch {
	case c.refuse != "":
		return Command{}, &LeadError{Program: argv[0], Why: c.refuse}
	case !known:
		if other, ok := ClientOf(argv[0], path); ok {
			return Command{}, &LeadError{Program: argv[0], Why: fmt.Sprintf("is a client of %s, and the tunnel leads to %s", other.Title, p.Title)}
		}
		known = namesPort(argv[1:], e.port())
	}
	given := argv[1:]
	env = clientenv.Make(environ, slices.Concat(p.client.clear, javaNames, c.clear), env)
	if c.args != nil {
		extra, err := c.args(execution{Endpoint: e, path: path, given: given, env: env, dir: dir})
		if err != nil {
			return Command{}, err
		}
		at := 0
		if c.leading != nil {
			at = c.leading(given)
		}
		if c.last {
			at = len(given)
		}
		given = slices.Concat(given[:at], extra, given[at:])
	}
	return Command{Argv: slices.Concat(argv[:1], given), Env: env, Known: known}, nil
}

// UsualClient returns what Exec is to be given to start p's usual client.
func (p Protocol) UsualClient(e Endpoint) ([]string, error) {
	argv, err := p.ClientCommand(e)
	if err == nil && p.client.usual != nil {
		argv = slices.Clone(p.client.usual)
	}
	return argv, err
}

// Where frameworks of Java find the address of their database, and the names that
// come before those in it.
var (
	javaURLs  = []string{"JDBC_URL", "JDBC_DATABASE_URL", "SPRING_DATASOURCE_URL"}
	javaNames = []string{
		"JDBC_DATABASE_USERNAME", "JDBC_DATABASE_PASSWORD", "SPRING_DATASOURCE_USERNAME", "SPRING_DATASOURCE_PASSWORD",
	}
)

// LeadError says that a program cannot be led to a tunnel.
type LeadError struct{ Program, Why string }

func (e *LeadError) Error() string { return fmt.Sprintf("%q %s", e.Program, e.Why) }

// Overruling returns the names of those variables in environ that p's clients
// obey rather than those of Env.
func (p Protocol) Overruling(environ []string) []string {
	return clientenv.Named(environ, p.client.clear)
}

// ProgramsByArguments returns the names of p's clients that Exec leads by more
// than variables, or refuses.
func (p Protocol) ProgramsByArguments() []string {
	var names []string
	for _, c := range p.client.programs {
		if c.args != nil || c.refuse != "" || len(c.clear) > 0 {
			names = append(names, c.names...)
		}
	}
	return names
}

// program finds the client that was called by that name and is in that file.
func (p Protocol) program(name, path string) (program, bool) {
	files := []string{name, path}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		files = append(files, target)
	}
	for _, file := range files {
		name := programName(file)
		for _, list := range [][]program{p.client.programs, desktopPrograms} {
			if i := slices.IndexFunc(list, func(c program) bool { return slices.Contains(c.names, name) }); i >= 0 {
				return list[i], true
			}
		}
	}
	return program{}, false
}

// ClientOf returns the protocol that the program, the file at path, belongs to.
func ClientOf(name, path string) (Protocol, bool) {
	return find(func(p Protocol) bool {
		_, ok := p.program(name, path)
		return ok
	})
}

// versioned is what packages add to the name of a program.
var versioned = regexp.MustCompile(`[-_.][0-9][0-9.]*$`)

// programName is the name that a program is known by.
func programName(file string) string {
	name := filepath.Base(file)
	if runtime.GOOS == "windows" {
		name = strings.ToLower(name)
		name = strings.TrimSuffix(name, filepath.Ext(name))
	}
	return versioned.ReplaceAllString(strings.TrimSuffix(name, ".exe"), "")
}

// namesPort reports whether the arguments name the tunnel's port: whoever wrote
// them knows where it is.
func namesPort(args []string, port string) bool {
	whole := regexp.MustCompile(`(^|[^0-9])` + port + `([^0-9]|$)`)
	return slices.ContainsFunc(args, whole.MatchString)
}

// desktopPrograms keep their servers in files of their own, whatever the
// protocol.
var desktopPrograms = []program{{
	names: []string{
		"another-redis-desktop-manager", "azuredatastudio", "beekeeper-studio", "datagrip", "dbeaver", "dbeaver-ce", "dbgate",
		"dbvis", "heidisql", "mongodb-compass-readonly", "mysql-workbench", "navicat", "pgadmin4", "redisinsight", "robo3t", "sequel-ace",
		"sqlectron", "ssms", "studio-3t", "tableplus",
	},
	refuse: "keeps its connections in its own settings",
}}
