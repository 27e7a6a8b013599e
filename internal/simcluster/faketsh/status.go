package faketsh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// statusJSON is a profile in "tsh status --format=json".
type statusJSON struct {
	ProfileURL        string              `json:"profile_url"`
	Username          string              `json:"username"`
	ActiveRequests    []string            `json:"active_requests,omitempty"`
	Cluster           string              `json:"cluster"`
	Roles             []string            `json:"roles"`
	Traits            map[string][]string `json:"traits"`
	Logins            []string            `json:"logins"`
	KubernetesEnabled bool                `json:"kubernetes_enabled"`
	ValidUntil        time.Time           `json:"valid_until"`
	Extensions        []string            `json:"extensions"`
}

// status is "tsh status".
func (t *tsh) status(context.Context) error {
	s, err := t.load()
	if errors.Is(err, errNoProxy) {
		return errNotLoggedIn
	}
	if err != nil {
		return err
	}
	if s.ssh == nil {
		return errNotLoggedIn
	}
	if err := t.printStatus(s); err != nil {
		return err
	}
	if !s.valid() {
		return errors.New("Active profile expired.") // tsh's words
	}
	return nil
}

func (s *session) statusJSON() statusJSON {
	st := statusJSON{
		ProfileURL:        "https://" + s.profile.WebProxyAddr,
		Username:          s.profile.User,
		ActiveRequests:    s.requests(),
		Cluster:           s.profile.Cluster,
		Roles:             s.roles(),
		Traits:            s.id.Traits,
		Logins:            s.logins(),
		KubernetesEnabled: true,
	}
	if s.ssh != nil {
		st.ValidUntil = s.validUntil()
		st.Extensions = slices.DeleteFunc(slices.Sorted(maps.Keys(s.ssh.Extensions)), func(name string) bool {
			return strings.HasPrefix(name, "teleport-") // printed above
		})
	}
	return st
}

// printStatus prints a session to stdout.
func (t *tsh) printStatus(s *session) error {
	st := s.statusJSON()
	if t.flags["format"] == "json" {
		out, err := json.MarshalIndent(map[string]any{"active": st, "profiles": []statusJSON{}}, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(t.stdout, string(out))
		return err
	}
	var b strings.Builder
	line := func(mark, name, value string) { fmt.Fprintf(&b, "%s %-19s %s\n", mark, name, value) }
	line(">", "Profile URL:", st.ProfileURL)
	line(" ", "Logged in as:", st.Username)
	if len(st.ActiveRequests) > 0 {
		line(" ", "Active requests:", strings.Join(st.ActiveRequests, ", "))
	}
	line(" ", "Cluster:", st.Cluster)
	line(" ", "Roles:", strings.Join(st.Roles, ", "))
	line(" ", "Logins:", strings.Join(st.Logins, ", "))
	line(" ", "Kubernetes:", "enabled")
	line(" ", "Valid until:", st.ValidUntil.String()+" "+remaining(st.ValidUntil))
	line(" ", "Extensions:", strings.Join(st.Extensions, ", "))
	b.WriteByte('\n')
	_, err := io.WriteString(t.stdout, b.String())
	return err
}

func remaining(until time.Time) string {
	left := time.Until(until).Round(time.Minute)
	if time.Now().After(until) {
		return "[EXPIRED]"
	}
	return fmt.Sprintf("[valid for %s]", strings.TrimSuffix(left.String(), "0s"))
}

// logout is "tsh logout": of all, or of --proxy and --user.
func (t *tsh) logout(context.Context) error {
	home, err := t.home()
	if err != nil {
		return err
	}
	proxy, user := profileName(t.flag("proxy", "TELEPORT_PROXY")), t.flag("user", "TELEPORT_USER")
	switch {
	case proxy == "" && user == "":
		if _, err := loadProfile(home, ""); errors.Is(err, errNotLoggedIn) {
			fmt.Fprintln(t.stdout, "All users logged out.")
			return nil
		}
		if err := home.LogoutAll(); err != nil {
			return err
		}
		fmt.Fprintln(t.stdout, "Logged out all users from all proxies.")
		return nil
	case proxy == "" || user == "":
		return errors.New("specify both --proxy and --user to remove keys for a specific user, or neither to log out all users")
	}
	p, err := loadProfile(home, proxy)
	if err != nil || p.User != user {
		return fmt.Errorf("user %s is not logged in to %s", user, proxy)
	}
	if err := home.Logout(proxy, user); err != nil {
		return err
	}
	fmt.Fprintf(t.stdout, "Logged out %s from %s.\n", user, proxy)
	return nil
}

// version is "tsh version"; without --client it asks the proxy, too.
func (t *tsh) version(ctx context.Context) error {
	proxy := ""
	if !t.flags.on("client") {
		if s, err := t.load(); err == nil {
			p, err := t.ping(ctx, s.profile.WebProxyAddr, "")
			if err != nil {
				return err
			}
			proxy = p.ServerVersion
		}
	}
	v := t.teleportVersion()
	if t.flags["format"] == "json" {
		out, err := json.MarshalIndent(map[string]string{
			"version": v, "gitref": "", "runtime": "go", "proxyVersion": proxy,
		}, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(t.stdout, string(out))
		return err
	}
	fmt.Fprintf(t.stdout, "Teleport v%s git: go\n", v)
	if proxy != "" {
		fmt.Fprintf(t.stdout, "Proxy version: %s\n", proxy)
	}
	return nil
}
