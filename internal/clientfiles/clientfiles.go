// Package clientfiles puts entries for tunnels into the config files of
// database clients, takes them out again, and reads what other programs have
// written there about Teleport.
//
// It promises that a file it cannot read as its client would is refused and
// stays as it is; that entries and comments of others stay the same to the
// byte; that each entry of berth's is marked, so that only those are ever
// removed; and that a file is replaced whole, through symbolic links and with
// the mode it had.
package clientfiles

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"berth/internal/shell"
	"berth/proxies/db"
)

// ErrTaken says that the user has an entry of that name already.
var ErrTaken = errors.New("the name is used by an entry that is not berth's")

// ErrNone says that berth has no such entry in the file.
var ErrNone = errors.New("berth has no such entry")

// A Client is a program whose config file can hold entries for tunnels.
type Client struct {
	Name  string // of the command's argument
	Title string // for people
	// Protocols are those of Teleport that the client can use through the
	// entry.
	Protocols []string

	// use says how to use the entry for a tunnel, in a file elsewhere if one is named.
	use    func(tunnel, file string) string
	format format
	path   func(Places) (string, error)
	wary   bool // it reads no file that every user may write
}

// An Entry is one of berth's in a client's file.
type Entry struct {
	Tunnel  string `json:"tunnel"`
	Address string `json:"address"` // host:port, as in the file
}

// A format reads and changes the content of one client's file. Content that the
// client itself could not read is an error.
type format interface {
	entries(data []byte) ([]Entry, error)
	// put adds an entry that says how to remove it, where it has a place for words.
	put(data []byte, proto db.Protocol, ep db.Endpoint, removal string) ([]byte, error)
	remove(data []byte, tunnel string) ([]byte, error)
}

// Clients are the clients, in the order in which they are listed.
var Clients = []Client{
	{
		Name: "dbeaver", Title: "DBeaver", Protocols: []string{"postgres", "cockroachdb", "mysql", "sqlserver"},
		use:    func(name, _ string) string { return fmt.Sprintf("restart DBeaver, and open the connection %s", name) },
		format: dbeaver{}, path: dbeaverPath,
	},
	{
		Name: "pgservice", Title: "libpq's service file", Protocols: []string{"postgres", "cockroachdb"},
		use: func(name, file string) string {
			psql := shell.Quote("psql", "service="+name)
			if file != "" {
				psql = "PGSERVICEFILE=" + shell.Quote(file) + " " + psql
			}
			return psql
		},
		format: pgService, path: pgServicePath,
	},
	{
		Name: "mycnf", Title: "the option file of MySQL's clients", Protocols: []string{"mysql"},
		use: func(name, file string) string {
			argv := []string{"mysql", "--defaults-group-suffix=_" + name}
			if file != "" { // --defaults-extra-file would let [client] in ~/.my.cnf lead elsewhere
				argv = slices.Insert(argv, 1, "--defaults-file="+file)
			}
			return shell.Quote(argv...)
		},
		format: myCnf, path: myCnfPath, wary: runtime.GOOS != "windows",
	},
	{
		Name: "vscode", Title: "SQLTools in VS Code", Protocols: []string{"postgres", "cockroachdb", "mysql", "sqlserver"},
		use: func(name, _ string) string {
			return fmt.Sprintf("open SQLTools in VS Code: %s, in the group berth", name)
		},
		format: vscode{}, path: vscodePath,
	},
}

// Lookup returns the client of that name.
func Lookup(name string) (Client, bool) {
	i := slices.IndexFunc(Clients, func(c Client) bool { return c.Name == name })
	if i < 0 {
		return Client{}, false
	}
	return Clients[i], true
}

// Path returns the file of the client's that its users have by default.
func (c Client) Path(p Places) (string, error) { return c.path(p) }

// Entries returns berth's entries in the content of the client's file.
func (c Client) Entries(data []byte) ([]Entry, error) { return c.format.entries(data) }

// Places are the folders and variables that decide where clients keep files.
type Places struct {
	Home   string
	Config string              // of the user's programs: ~/.config, %APPDATA% or ~/Library/Application Support
	Env    func(string) string // the environment
}

// Here returns the user's places on this machine.
func Here(env func(string) string) (Places, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return Places{}, err
	}
	config, err := os.UserConfigDir()
	return Places{Home: home, Config: config, Env: env}, err
}

// dbeaverPath returns the data sources of DBeaver's usual workspace: of the
// first installation that was ever started. Flatpak and Snap have their own.
func dbeaverPath(p Places) (string, error) {
	var bases []string
	switch runtime.GOOS {
	case "windows":
		bases = []string{p.Config}
	case "darwin":
		bases = []string{filepath.Join(p.Home, "Library")}
	default:
		data := p.Env("XDG_DATA_HOME")
		if data == "" {
			data = filepath.Join(p.Home, ".local", "share")
		}
		bases = []string{
			data,
			filepath.Join(p.Home, ".var", "app", "io.dbeaver.DBeaverCommunity", "data"),
			filepath.Join(p.Home, "snap", "dbeaver-ce", "current", ".local", "share"),
		}
	}
	for _, base := range bases {
		project := filepath.Join(base, "DBeaverData", "workspace6", "General")
		if info, err := os.Stat(project); err == nil && info.IsDir() {
			return filepath.Join(project, ".dbeaver", "data-sources.json"), nil
		}
	}
	return "", fmt.Errorf("DBeaver has no workspace in %s yet", filepath.Join(bases[0], "DBeaverData"))
}

func pgServicePath(p Places) (string, error) {
	if file := p.Env("PGSERVICEFILE"); file != "" {
		return file, nil
	}
	if runtime.GOOS == "windows" {
		return filepath.Join(p.Config, "postgresql", ".pg_service.conf"), nil
	}
	return filepath.Join(p.Home, ".pg_service.conf"), nil
}

func myCnfPath(p Places) (string, error) {
	if runtime.GOOS == "windows" {
		return "", errors.New("MySQL's clients read no option file of the user's own on Windows")
	}
	return filepath.Join(p.Home, ".my.cnf"), nil
}

func vscodePath(p Places) (string, error) {
	user := filepath.Join(p.Config, "Code", "User")
	if info, err := os.Stat(user); err != nil || !info.IsDir() {
		return "", fmt.Errorf("VS Code has no settings in %s yet", user)
	}
	return filepath.Join(user, "settings.json"), nil
}
