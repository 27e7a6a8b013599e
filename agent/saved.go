package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"berth/internal/atomicfile"
)

// saved is what the agent remembers between runs, beside the config: nothing
// secret, and nothing the user wrote.
type saved struct {
	path string

	mu   sync.Mutex
	data savedData
}

type savedData struct {
	Version int `json:"version"`
	// Stopped are the tunnels the user stopped; they stay so over restarts.
	Stopped []string `json:"stopped"`
	// Clusters says which profile last served a cluster, so that after a
	// logout, when nothing is left in the home, berth can still name the
	// login command.
	Clusters map[string]rememberedProfile `json:"clusters"`
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

// rememberedProfile is a profile that once served a cluster.
type rememberedProfile struct {
	Proxy string `json:"proxy"`
	User  string `json:"user"`
}

// loadSaved reads the state file. One that is missing is empty; one that
// cannot be understood is set aside, under the same name with ".broken", and
// the error says so: the state that comes back is usable all the same.
func loadSaved(path string) (*saved, error) {
	s := &saved{path: path}
	s.data.fillIn()
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read saved state: %w", err)
	}
	var data savedData
	if err := json.Unmarshal(raw, &data); err != nil {
		broken := path + ".broken"
		if mvErr := os.Rename(path, broken); mvErr != nil {
			return s, fmt.Errorf("saved state %s cannot be understood (%w) nor set aside (%w)", path, err, mvErr)
		}
		return s, fmt.Errorf("saved state could not be understood and was set aside as %s: %w", broken, err)
	}
	data.fillIn()
	s.data = data
	return s, nil
}

func (d *savedData) fillIn() {
	d.Version = 1
	if d.Clusters == nil {
		d.Clusters = map[string]rememberedProfile{}
	}
	if d.Grants == nil {
		d.Grants = map[string][]string{}
	}
	if d.Protocols == nil {
		d.Protocols = map[string]string{}
	}
}

func (s *saved) stopped(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.data.Stopped, name)
}

func (s *saved) profileOf(clusterName string) (rememberedProfile, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.data.Clusters[clusterName]
	return p, ok
}

// setStopped remembers whether the user stopped the tunnel.
func (s *saved) setStopped(name string, stopped bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	has := slices.Contains(s.data.Stopped, name)
	if has == stopped {
		return nil
	}
	if stopped {
		s.data.Stopped = append(s.data.Stopped, name)
		slices.Sort(s.data.Stopped)
	} else {
		s.data.Stopped = slices.DeleteFunc(s.data.Stopped, func(n string) bool { return n == name })
	}
	return s.writeLocked()
}

// remember notes which profiles serve which clusters now.
func (s *saved) remember(now map[string]rememberedProfile) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	merged := maps.Clone(s.data.Clusters)
	maps.Copy(merged, now)
	if maps.Equal(merged, s.data.Clusters) {
		return nil
	}
	s.data.Clusters = merged
	return s.writeLocked()
}

// protocolOf returns the protocol the database was last known by, or "".
func (s *saved) protocolOf(clusterName, resource string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data.Protocols[clusterName+"/"+resource]
}

// rememberProtocol notes what the cluster says of a database.
func (s *saved) rememberProtocol(clusterName, resource, protocol string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := clusterName + "/" + resource
	if s.data.Protocols[key] == protocol {
		return nil
	}
	s.data.Protocols[key] = protocol
	return s.writeLocked()
}

// stored returns what the keychain holds for a user at a proxy.
func (s *saved) stored(proxy, user string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.data.Stored[user+"@"+proxy])
}

// setStored notes whether the keychain holds something of that kind.
func (s *saved) setStored(proxy, user, kind string, stored bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := user + "@" + proxy
	kinds := slices.DeleteFunc(slices.Clone(s.data.Stored[key]), func(k string) bool { return k == kind })
	if stored {
		kinds = append(kinds, kind)
		slices.Sort(kinds)
	}
	if slices.Equal(kinds, s.data.Stored[key]) {
		return nil
	}
	if s.data.Stored == nil {
		s.data.Stored = map[string][]string{}
	}
	if s.data.Stored[key] = kinds; len(kinds) == 0 {
		delete(s.data.Stored, key)
	}
	return s.writeLocked()
}

// grants returns the access requests whose roles a tunnel alone has.
func (s *saved) grants(tunnel string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.data.Grants[tunnel])
}

// granted returns the tunnels that alone have a request's roles, by request.
func (s *saved) granted() map[string][]string {
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

// setGrants remembers which requests' roles a tunnel alone has.
func (s *saved) setGrants(tunnel string, ids []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(s.data.Grants[tunnel], ids) {
		return nil
	}
	if len(ids) == 0 {
		delete(s.data.Grants, tunnel)
	} else {
		s.data.Grants[tunnel] = slices.Clone(ids)
	}
	return s.writeLocked()
}

func (s *saved) writeLocked() error {
	raw, err := json.MarshalIndent(s.data, "", "  ")
	if err != nil {
		return fmt.Errorf("encode saved state: %w", err)
	}
	if err := atomicfile.Write(s.path, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}
