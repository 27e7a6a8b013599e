package doctor

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"berth/agent/state"
	"berth/internal/atomicfile"
	"berth/internal/logfile"
)

const maxFile = 1 << 20 // of the config

var logBytes int64 = 512 << 10 // of the end of each log; tests take less

const bundleReadme = `What "berth doctor --bundle" found, for whoever helps you.

versions.json   berth and the system
findings.json   what berth doctor says
snapshot.json   what the agent says, if one runs
config.yaml     the config's shape: comments, commands and database users are left out
environment.txt which variables that matter are set, not to what
agent.log, tray.log   the end of the logs; .1 to .3 are older ones
agent.output.log      what the system kept of the agent's output (macOS)

Keys, certificates, passwords and tokens are taken out, and so are login pages.
Names of proxies, clusters, databases, tunnels and Teleport users are in it: read
it before you send it.
`

// reported are the environment variables that explain something when they are
// set.
var reported = []string{
	"BERTH_HOME", "TELEPORT_HOME", "TELEPORT_PROXY", "TELEPORT_USER", "TELEPORT_CLUSTER", "KUBECONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME",
	"XDG_RUNTIME_DIR", "XDG_CURRENT_DESKTOP", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "HTTPS_PROXY", "https_proxy",
	"HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "BROWSER", "LANG", "PATH",
}

// WriteBundle writes a report to the file at path as a tar.gz archive, with the
// config, the logs and the versions, and without secrets. Only its user can
// read it. environ is the environment, as of os.Environ.
func WriteBundle(path string, cfg Config, r Report, environ []string) error {
	red := newRedactor(environ)
	var buf bytes.Buffer
	zip := gzip.NewWriter(&buf)
	b := &bundle{tar: tar.NewWriter(zip), at: time.Now(), red: red}
	b.add("README.txt", bundleReadme)
	b.addJSON("versions.json", map[string]string{
		"berth": cfg.Version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
	})
	b.addJSON("findings.json", r.Findings)
	if r.Snapshot != nil {
		b.addJSON("snapshot.json", withoutPages(*r.Snapshot))
	}
	if data, err := readEnd(cfg.Paths.Config, maxFile); !errors.Is(err, fs.ErrNotExist) {
		b.addOr("config.yaml", err, func() string { return red.config(data) })
	}
	b.add("environment.txt", environment(cfg.Env))
	for _, path := range logs(filepath.Dir(cfg.Paths.LogFile), cfg.Paths.LogFile) {
		if data, err := readEnd(path, logBytes); !errors.Is(err, fs.ErrNotExist) {
			b.addOr(filepath.Base(path), err, func() string { return red.quoted(wholeLines(data)) })
		}
	}
	if err := errors.Join(b.err, b.tar.Close(), zip.Close()); err != nil {
		return fmt.Errorf("make the bundle: %w", err)
	}
	if err := atomicfile.Write(path, buf.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	return nil
}

// logs are the files that the logs may consist of.
func logs(dir, agent string) []string {
	files := append(logfile.Files(agent), logfile.Files(filepath.Join(dir, "tray.log"))...)
	return append(files, filepath.Join(dir, "agent.output.log"))
}

// bundle is an archive under way.
type bundle struct {
	tar *tar.Writer
	at  time.Time
	red *redactor
	err error // the first
}

// add adds a text. Everything goes through the redactor, whatever was done to
// it before.
func (b *bundle) add(name, text string) {
	if b.err != nil {
		return
	}
	text = b.red.text(text)
	head := &tar.Header{Name: "berth-doctor/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: b.at, Typeflag: tar.TypeReg}
	if b.err = b.tar.WriteHeader(head); b.err == nil {
		_, b.err = io.WriteString(b.tar, text)
	}
}

func (b *bundle) addOr(name string, err error, text func() string) {
	if err != nil {
		b.add(name, fmt.Sprintf("it cannot be read: %v\n", err))
		return
	}
	b.add(name, text())
}

// addJSON adds a value, whose texts are redacted one by one so that it stays
// JSON.
func (b *bundle) addJSON(name string, v any) {
	raw, err := json.Marshal(v)
	if err == nil {
		var plain any
		if err = json.Unmarshal(raw, &plain); err == nil {
			raw, err = json.MarshalIndent(b.red.value(plain), "", "  ")
		}
	}
	if err != nil {
		b.err = errors.Join(b.err, err)
		return
	}
	b.add(name, string(raw)+"\n")
}

// value redacts every text in a JSON value.
func (r *redactor) value(v any) any {
	switch v := v.(type) {
	case string:
		return r.quoted(v)
	case []any:
		for i := range v {
			v[i] = r.value(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = r.value(v[key])
		}
	}
	return v
}

// withoutPages leaves out the login pages: whoever has one can log in.
func withoutPages(s state.Snapshot) state.Snapshot {
	s.Profiles = slices.Clone(s.Profiles)
	for i := range s.Profiles {
		if s.Profiles[i].Login.URL != "" {
			s.Profiles[i].Login.URL = gone
		}
	}
	s.Notices = nil // they say the same in other words
	return s
}

func environment(env func(string) string) string {
	var b strings.Builder
	for _, name := range reported {
		is := "not set"
		if env(name) != "" {
			is = "set"
		}
		fmt.Fprintf(&b, "%s %s\n", name, is)
	}
	return b.String()
}

// readEnd reads the last bytes of a file.
func readEnd(path string, size int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	if skip := info.Size() - size; skip > 0 {
		if _, err := f.Seek(skip, io.SeekStart); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, size))
}

// wholeLines drops what may be the end of a cut line, in which a secret would
// not be known as one.
func wholeLines(data []byte) string {
	if int64(len(data)) < logBytes {
		return string(data)
	}
	_, rest, _ := bytes.Cut(data, []byte("\n"))
	return string(rest)
}
