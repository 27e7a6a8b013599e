// Package memory keeps what the agent remembers between runs, beside the
// config: the tunnels that the user stopped, who served which cluster, which
// requests a tunnel alone has, and what the keychain holds. Nothing in the state
// file is secret, and nothing in it was written by the user. Every change is on
// disk, atomically and 0600, before the call that makes it returns. While the file is
// about to be another process's, and once it is, what the user asks for is refused with
// ErrPassedOn, and what the agent has learned is kept in this process alone.
package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"berth/agent/state"
	"berth/internal/atomicfile"
	"berth/internal/plain"
	"berth/internal/wake"
)

// Store is the state file: what the agent remembers between runs.
type Store struct {
	path string

	writing   wake.Turn  // of a change and its writing; taken before mu
	unwritten bool       // changes are not written; guarded by writing
	aside     string     // where the file goes before another takes its place; empty: nowhere; guarded by writing
	mu        sync.Mutex // guards what is below; never held over the disk, since snapshots read
	data      contents
	trouble   error       // why what is remembered is not on disk; nil: it is
	since     time.Time   // of trouble
	again     *time.Timer // until the next try; nil: none is due
}

// retryAfter is how long after a write that failed the next one is tried.
const retryAfter = 15 * time.Second

const (
	readTries = 4
	readPause = 100 * time.Millisecond
)

// formatVersion is the version of the file's format. It grows when an older berth
// would misread a file, or lose what it must not.
const formatVersion = 1

// NewerError says that a file was written by a newer berth.
type NewerError struct {
	Path    string
	Version int
}

// Error names both versions.
func (e *NewerError) Error() string {
	return fmt.Sprintf("%s is of format %d, which a newer berth has written; this one knows formats up to %d", e.Path, e.Version, formatVersion)
}

type contents struct {
	Version int `json:"version"`
	// Stopped are the tunnels the user stopped; they stay so over restarts.
	Stopped []string `json:"stopped"`
	// Clusters says which profile last served a cluster, so that after a
	// logout, when nothing is left in the home, berth can still name the
	// login command.
	Clusters map[string]Profile `json:"clusters"`
	// Protocols says what the cluster said of a database ("cluster/name"), so
	// that connection strings can be printed while logged out.
	Protocols map[string]string `json:"protocols"`
	// Stored says what the keychain holds for "user@proxy": password, totp. The
	// keychain is asked for nothing else.
	Stored map[string][]string `json:"stored,omitempty"`
	// Grants are the access requests whose roles a tunnel alone has, by the
	// tunnel's name.
	Grants map[string][]string `json:"grants,omitempty"`
}

// Profile is a profile that once served a cluster.
type Profile struct {
	Proxy string `json:"proxy"`
	User  string `json:"user"`
}

// Load reads the state file. A missing file is empty. A file that cannot be read or
// parsed is renamed to the same name with ".broken" and the error says so; the
// Store that comes back is empty and usable. So it is with the file of a newer
// berth, which is kept as ".newer", for when that one comes back, and makes a
// *NewerError. Where a file cannot be renamed the Store writes nothing until it can.
func Load(path string) (*Store, error) {
	s := &Store{path: path}
	s.data.fillIn()
	raw, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, s.unused(".broken", fmt.Errorf("saved state cannot be read: %w", err))
	}
	if newer := newerThanThis(path, raw); newer != nil {
		return s, s.unused(".newer", newer)
	}
	var data contents
	if err := json.Unmarshal(raw, &data); err != nil {
		return s, s.unused(".broken", fmt.Errorf("saved state %s cannot be understood: %w", path, err))
	}
	data.fillIn()
	s.data = data
	return s, nil
}

// read reads the file, once more where what fails may last but a moment: another program
// holds the file, or there are too few descriptors.
func read(path string) (raw []byte, err error) {
	for range readTries {
		raw, err = os.ReadFile(path)
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			break
		}
		wake.Sleep(context.Background(), readPause)
	}
	return raw, err
}

// newerThanThis returns a *NewerError for the file of a newer berth, whatever else is in it.
func newerThanThis(path string, raw []byte) error {
	var said struct {
		Version int `json:"version"`
	}
	if json.Unmarshal(raw, &said) != nil || said.Version <= formatVersion {
		return nil // what cannot be understood is not said to be newer
	}
	return &NewerError{Path: path, Version: said.Version}
}

// unused has the file, which is not used because of why, set aside by that suffix, and
// returns why with what became of it.
func (s *Store) unused(suffix string, why error) error {
	s.aside = s.path + suffix
	if err := s.setAside(); err != nil {
		return fmt.Errorf("%w; it cannot be set aside: %w", why, err)
	}
	return fmt.Errorf("%w; it was set aside as %s", why, s.path+suffix)
}

// setAside makes way for what is written. It is called by one at a time.
func (s *Store) setAside() error {
	if s.aside == "" {
		return nil
	}
	if err := atomicfile.Rename(s.path, s.aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.aside = ""
	return nil
}

func (d *contents) fillIn() {
	d.Version = formatVersion
	if d.Clusters == nil {
		d.Clusters = map[string]Profile{}
	}
	if d.Grants == nil {
		d.Grants = map[string][]string{}
	}
	if d.Stored == nil {
		d.Stored = map[string][]string{}
	}
	if d.Protocols == nil {
		d.Protocols = map[string]string{}
	}
}

// Reload reads the file again: another process has written it last.
func (s *Store) Reload() error {
	fresh, err := Load(s.path)
	if err != nil {
		return err
	}
	s.writing.Take(context.Background())
	defer s.writing.Give()
	s.aside = "" // that was another file
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = fresh.data
	return nil
}

// ErrPassedOn is why something is not remembered: the successor, which has read the file,
// would not know of it.
var ErrPassedOn = errors.New("the agent hands over to its successor just now: try again in a moment")

// Freeze has changes remembered here only, or refused, until thaw is called: another
// process is about to read the file, and no change waits for it. With keep the file is
// that process's from then on; otherwise what has changed meanwhile is written.
func (s *Store) Freeze() (thaw func(keep bool)) {
	was := s.freeze(true)
	return func(keep bool) {
		if s.freeze(was || keep); !was && !keep {
			_ = s.change(func(*contents) bool { return true }) // what fails is in doubt, and tried again
		}
	}
}

// freeze has changes written no longer, or again, and returns how it was.
func (s *Store) freeze(unwritten bool) (was bool) {
	s.writing.Take(context.Background())
	defer s.writing.Give()
	was, s.unwritten = s.unwritten, unwritten
	return was
}

// changeLasting is change for what the user asks for.
func (s *Store) changeLasting(f func(*contents) bool) error {
	s.writing.Take(context.Background())
	defer s.writing.Give()
	if s.unwritten {
		return ErrPassedOn
	}
	return s.changeInTurn(f)
}

// change applies f to the contents and, if f reports a difference, writes them.
// Changes are written in the order in which they are made.
func (s *Store) change(f func(*contents) bool) error {
	s.writing.Take(context.Background())
	defer s.writing.Give()
	return s.changeInTurn(f)
}

// changeInTurn is change for a caller that has s.writing.
func (s *Store) changeInTurn(f func(*contents) bool) error {
	s.mu.Lock()
	differs := f(&s.data)
	raw, err := json.MarshalIndent(s.data, "", "  ")
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("encode saved state: %w", err)
	}
	_, trouble := s.Trouble()
	if (!differs && trouble == nil) || s.unwritten {
		return nil
	}
	if trouble != nil { // the folder may not be there yet; if not, writing says why
		_ = os.MkdirAll(filepath.Dir(s.path), 0o700)
	}
	err = s.setAside()
	if err == nil {
		err = atomicfile.Write(s.path, append(raw, '\n'), 0o600)
	}
	if err != nil {
		s.Doubt(err)
		return fmt.Errorf("save state: %w", err)
	}
	s.mu.Lock()
	s.trouble = nil
	s.mu.Unlock()
	return nil
}

// Doubt says that a file beside the state file could not be written. The state is
// written again every retryAfter until that succeeds.
func (s *Store) Doubt(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trouble == nil {
		s.since = time.Now()
	}
	s.trouble = err
	if s.again == nil {
		s.again = time.AfterFunc(retryAfter, s.retry)
	}
}

func (s *Store) retry() {
	s.mu.Lock()
	s.again = nil
	s.mu.Unlock()
	_ = s.change(func(*contents) bool { return false }) // what fails is in doubt again
}

// Trouble says since when and why what is remembered is not on disk; nil: it is.
func (s *Store) Trouble() (since time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since, s.trouble
}

// Problems says that what is remembered is not on disk.
func (s *Store) Problems() []state.Problem {
	since, err := s.Trouble()
	if err == nil {
		return nil
	}
	return []state.Problem{{
		Code: state.CodeStateUnwritable, Title: "Nothing can be saved",
		Text: fmt.Sprintf("Tunnels are served, but what changes is forgotten when the agent ends, and its log may be missing: %s.",
			plain.Words(err.Error())),
		Action: "free space, or make " + filepath.Dir(s.path) + " writable; berth tries again by itself", Since: since.UTC(),
	}}
}

// Stopped reports whether the user stopped the tunnel.
func (s *Store) Stopped(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.data.Stopped, name)
}

// SetStopped remembers whether the user stopped the tunnel.
func (s *Store) SetStopped(name string, stopped bool) error {
	return s.changeLasting(func(d *contents) bool {
		before := d.Stopped
		d.Stopped = with(before, name, stopped)
		return !slices.Equal(before, d.Stopped)
	})
}

// ProfileOf returns the profile that last served a cluster, or without a name the one
// that served them all; false means that none is known.
func (s *Store) ProfileOf(clusterName string) (Profile, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.data.Clusters[clusterName]; ok || clusterName != "" {
		return p, ok
	}
	var only Profile
	for _, p := range s.data.Clusters {
		if only != (Profile{}) && only != p {
			return Profile{}, false
		}
		only = p
	}
	return only, only != (Profile{})
}

// RememberClusters notes which profiles serve which clusters now.
func (s *Store) RememberClusters(now map[string]Profile) error {
	return s.change(func(d *contents) bool {
		before := maps.Clone(d.Clusters)
		maps.Copy(d.Clusters, now)
		return !maps.Equal(before, d.Clusters)
	})
}

// ProtocolOf returns the protocol the database was last known by, or "".
func (s *Store) ProtocolOf(clusterName, resource string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data.Protocols[clusterName+"/"+resource]
}

// RememberProtocol notes what the cluster says of a database.
func (s *Store) RememberProtocol(clusterName, resource, protocol string) error {
	return s.change(func(d *contents) bool {
		key := clusterName + "/" + resource
		before := d.Protocols[key]
		d.Protocols[key] = protocol
		return before != protocol
	})
}

// Stored returns what the keychain holds for a user at a proxy.
func (s *Store) Stored(proxy, user string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.data.Stored[user+"@"+proxy])
}

// SetStored notes whether the keychain holds a secret of that kind, or is about to. That
// it holds none a successor finds out too.
func (s *Store) SetStored(proxy, user, kind string, stored bool) error {
	change := s.change
	if stored {
		change = s.changeLasting
	}
	return change(func(d *contents) bool { return setList(d.Stored, user+"@"+proxy, kind, stored) })
}

// Grants returns the access requests whose roles a tunnel alone has.
func (s *Store) Grants(tunnel string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.data.Grants[tunnel])
}

// Granted returns, by request, the tunnels that alone have its roles.
func (s *Store) Granted() map[string][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	by := make(map[string][]string)
	for _, tunnel := range slices.Sorted(maps.Keys(s.data.Grants)) {
		for _, id := range s.data.Grants[tunnel] {
			by[id] = append(by[id], tunnel)
		}
	}
	return by
}

// SetGrant remembers whether a tunnel alone has the roles of a request, as the user wants
// it, and reports whether that is new.
func (s *Store) SetGrant(tunnel, id string, has bool) (changed bool, err error) {
	err = s.changeLasting(func(d *contents) bool {
		changed = setList(d.Grants, tunnel, id, has)
		return changed
	})
	return changed, err
}

// GrantLost remembers that a request's roles are lost, of which a successor learns as this
// agent has, and reports whether the tunnel had them.
func (s *Store) GrantLost(tunnel, id string) (changed bool, err error) {
	err = s.change(func(d *contents) bool {
		changed = setList(d.Grants, tunnel, id, false)
		return changed
	})
	return changed, err
}

// ForgetTunnel forgets what is remembered of a tunnel by its name: that the user stopped
// it, and the requests whose roles it has.
func (s *Store) ForgetTunnel(name string) error {
	return s.change(func(d *contents) bool {
		_, had := d.Grants[name]
		delete(d.Grants, name)
		before := d.Stopped
		d.Stopped = with(before, name, false)
		return had || !slices.Equal(before, d.Stopped)
	})
}

// ForgetAllBut forgets what is remembered of tunnels by other names than those.
func (s *Store) ForgetAllBut(tunnels []string) error {
	return s.change(func(d *contents) bool {
		gone := func(name string) bool { return !slices.Contains(tunnels, name) }
		before := len(d.Stopped) + len(d.Grants)
		d.Stopped = slices.DeleteFunc(slices.Clone(d.Stopped), gone)
		maps.DeleteFunc(d.Grants, func(name string, _ []string) bool { return gone(name) })
		return len(d.Stopped)+len(d.Grants) != before
	})
}

// CopyTunnel remembers of the tunnel called to what is remembered of from: that the
// user stopped it, and the requests whose roles it has.
func (s *Store) CopyTunnel(from, to string) error {
	return s.changeLasting(func(d *contents) bool {
		stopped, grants := slices.Contains(d.Stopped, from), d.Grants[from]
		d.Stopped = with(d.Stopped, to, stopped)
		if len(grants) > 0 {
			d.Grants[to] = slices.Clone(grants)
		}
		return stopped || len(grants) > 0
	})
}

// setList adds name to the list of a key or takes it out, and reports whether
// that made a difference. A list without names has no key.
func setList(lists map[string][]string, key, name string, in bool) bool {
	before := lists[key]
	after := with(before, name, in)
	if lists[key] = after; len(after) == 0 {
		delete(lists, key)
	}
	return !slices.Equal(before, after)
}

// with returns a sorted copy of list that contains name, or does not.
func with(list []string, name string, in bool) []string {
	list = slices.DeleteFunc(slices.Clone(list), func(have string) bool { return have == name })
	if in {
		list = append(list, name)
		slices.Sort(list)
	}
	return list
}
