package memory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What could not be written is written later, without another change.
func TestWritesAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // in the folder's place
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s, _ := Load(filepath.Join(dir, "state.json")) // it cannot be read either
		began := time.Now()
		for _, name := range []string{"pg", "kube"} {
			if err := s.SetStopped(name, true); err == nil {
				t.Error("a change passes for written")
			}
		}
		time.Sleep(3 * retryAfter)
		if since, err := s.Trouble(); err == nil || !since.Equal(began) {
			t.Errorf("Trouble() = %v, %v, want one since %v", since, err, began)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryAfter + time.Second)
		if _, err := s.Trouble(); err != nil {
			t.Errorf("Trouble() = %v after the next try", err)
		}
		if s.again != nil {
			t.Error("it tries on")
		}
		if again, err := Load(s.path); err != nil || !again.Stopped("pg") || !again.Stopped("kube") {
			t.Errorf("the file is read as %+v, %v", again, err)
		}
	})
}

// TestFreeze: while another process is about to take the file over a change waits for
// nothing and is not in it. It gets there if that process never serves. What the user
// asks for meanwhile is refused, and nothing of it done.
func TestFreeze(t *testing.T) {
	for name, keep := range map[string]bool{"it_serves": true, "it_fails": false} {
		t.Run(name, func(t *testing.T) {
			s, err := Load(filepath.Join(t.TempDir(), "state.json"))
			if err != nil {
				t.Fatal(err)
			}
			change := func(tunnel string, written bool) {
				t.Helper()
				if err := s.RememberProtocol("c", tunnel, "redis"); err != nil {
					t.Error(err)
				}
				_, granting := s.SetGrant(tunnel, "id", true)
				for what, err := range map[string]error{"stop": s.SetStopped(tunnel, true), "grant": granting, "copy": s.CopyTunnel("before", tunnel+"2"), "store": s.SetStored("p:443", tunnel, "password", true)} {
					if written != (err == nil) || !written && !errors.Is(err, ErrPassedOn) {
						t.Errorf("%s: %s: %v", tunnel, what, err)
					}
				}
				if s.Stopped(tunnel) != written || s.Stopped(tunnel+"2") != written || len(s.Grants(tunnel)) > 0 != written || s.ProtocolOf("c", tunnel) == "" {
					t.Errorf("%s: remembered is %+v", tunnel, s.data)
				}
				if again, err := Load(s.path); err != nil || again.Stopped(tunnel) != written || (again.ProtocolOf("c", tunnel) != "") != written {
					t.Errorf("%s: %v; in the file is %+v", tunnel, err, again.data)
				}
			}
			change("before", true)
			if _, err := s.SetGrant("ends", "id", true); err != nil {
				t.Fatal(err)
			}
			thaw := s.Freeze()
			change("meanwhile", false)
			if _, err := s.SetGrant("before", "id", false); !errors.Is(err, ErrPassedOn) || len(s.Grants("before")) == 0 {
				t.Errorf("a drop meanwhile: %v, left is %v", err, s.Grants("before"))
			}
			// What the successor sees for itself goes on.
			if lost, err := s.GrantLost("ends", "id"); err != nil || !lost {
				t.Errorf("a loss meanwhile: %v, %v", lost, err)
			}
			if err := s.SetStored("p:443", "before", "password", false); err != nil || len(s.Stored("p:443", "before")) > 0 || len(s.Stored("p:443", "meanwhile")) > 0 {
				t.Errorf("a secret that is gone: %v; left is %+v", err, s.data.Stored)
			}
			if err := s.ForgetTunnel("before2"); err != nil || s.Stopped("before2") {
				t.Errorf("a tunnel that is removed meanwhile: %v", err)
			}
			thaw(keep)
			if again, err := Load(s.path); err != nil || again.Stopped("before2") != keep || len(again.Grants("ends")) > 0 != keep {
				t.Errorf("%v; of what ended meanwhile there is in the file %+v", err, again.data)
			}
			if again, err := Load(s.path); err != nil || (again.ProtocolOf("c", "meanwhile") == "") != keep {
				t.Errorf("%v; of what changed meanwhile there is in the file %+v", err, again.data)
			}
			change("after", !keep)
		})
	}
}

// TestDowngrade: the state of a newer berth is neither misread nor lost, whatever its
// form; that of this one is read.
func TestDowngrade(t *testing.T) {
	for _, text := range []string{`{"version":2,"stopped":["pg"]}`, `{"version":9,"stopped":{"pg":true}}`} {
		path := filepath.Join(t.TempDir(), "state.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Load(path)
		if newer, ok := errors.AsType[*NewerError](err); !ok || newer.Version < 2 || !strings.Contains(err.Error(), path+".newer") {
			t.Errorf("%s: %v", text, err)
		}
		if kept, err := os.ReadFile(path + ".newer"); string(kept) != text || s.Stopped("pg") {
			t.Errorf("%s is kept as %q, %v, and read: %v", text, kept, err, s.Stopped("pg"))
		}
		if err := s.SetStopped("redis", true); err != nil {
			t.Error(err)
		}
		if again, err := Load(path); err != nil || !again.Stopped("redis") {
			t.Errorf("what was written since cannot be read: %v", err)
		}
	}
}

// TestSetAside: a file that is not used is kept beside the next one. Where it cannot be, it
// stays, and nothing is written until it can.
func TestSetAside(t *testing.T) {
	for name, tt := range map[string]struct {
		text, kept string
	}{"unreadable": {"", ".broken"}, "broken": {"{", ".broken"}, "newer": {`{"version":2}`, ".newer"}} {
		for _, taken := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, name taken %v", name, taken), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "state.json")
				kept, blocks := path+tt.kept, filepath.Join(path+tt.kept, "taken")
				file := func(path string) string {
					if tt.text == "" { // a folder cannot be read as a file
						return filepath.Join(path, "whole")
					}
					return path
				}
				err := os.MkdirAll(filepath.Dir(file(path)), 0o700)
				if taken {
					err = errors.Join(err, os.MkdirAll(blocks, 0o700))
				}
				if err := errors.Join(err, os.WriteFile(file(path), []byte(tt.text), 0o600)); err != nil {
					t.Fatal(err)
				}
				is := func(where string) bool {
					raw, err := os.ReadFile(file(where))
					return err == nil && string(raw) == tt.text
				}
				synctest.Test(t, func(t *testing.T) {
					s, err := Load(path)
					if err == nil || strings.Contains(err.Error(), "was set aside as "+kept) == taken {
						t.Errorf("Load: %v", err)
					}
					if err := s.SetStopped("pg", true); (err != nil) != taken || !s.Stopped("pg") {
						t.Errorf("a change: %v", err)
					}
					if taken {
						if _, err := s.Trouble(); err == nil || !is(path) {
							t.Errorf("trouble %v; it is where it was: %v", err, is(path))
						}
						if err := os.RemoveAll(kept); err != nil {
							t.Fatal(err)
						}
						time.Sleep(retryAfter + time.Second)
					}
					if _, err := s.Trouble(); err != nil || !is(kept) {
						t.Errorf("trouble %v; it is set aside: %v", err, is(kept))
					}
				})
				if again, err := Load(path); err != nil || !again.Stopped("pg") {
					t.Errorf("what was written since cannot be read: %v", err)
				}
			})
		}
	}
}

// TestReadAgain: a file that cannot be read for a moment is not set aside.
func TestReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if err := os.Mkdir(path, 0o700); err != nil { // which cannot be read as a file
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		time.AfterFunc(readPause/2, func() {
			if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte(`{"stopped":["pg"]}`), 0o600)); err != nil {
				t.Error(err)
			}
		})
		if s, err := Load(path); err != nil || !s.Stopped("pg") {
			t.Errorf("Load: %v", err)
		}
	})
}

// TestOnlyProfile: without a cluster's name the profile is known while there is but one.
func TestOnlyProfile(t *testing.T) {
	s, err := Load(filepath.Join(t.TempDir(), "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	p := Profile{Proxy: "p:443", User: "alice"}
	for _, step := range []struct {
		now  map[string]Profile
		want Profile
	}{
		{nil, Profile{}},
		{map[string]Profile{"root": p, "leaf": p}, p},
		{map[string]Profile{"other": {Proxy: "q:443", User: "alice"}}, Profile{}},
	} {
		if err := s.RememberClusters(step.now); err != nil {
			t.Fatal(err)
		}
		if got, ok := s.ProfileOf(""); got != step.want || ok != (step.want != Profile{}) {
			t.Errorf("after %v: %v, %v", step.now, got, ok)
		}
	}
}

// TestForgetAllBut: of the tunnels that there are all is kept.
func TestForgetAllBut(t *testing.T) {
	s, err := Load(filepath.Join(t.TempDir(), "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		_, granting := s.SetGrant(name, "id", true)
		if err := errors.Join(granting, s.SetStopped(name, true)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.ForgetAllBut([]string{"b", "d"}); err != nil {
		t.Fatal(err)
	}
	again, err := Load(s.path)
	if err != nil {
		t.Fatal(err)
	}
	want := contents{Stopped: []string{"b"}, Grants: map[string][]string{"b": {"id"}}}
	want.fillIn()
	for where, got := range map[string]*Store{"memory": s, "the file": again} {
		if diff := cmp.Diff(want, got.data); diff != "" {
			t.Errorf("in %s (-want +got):\n%s", where, diff)
		}
	}
}
