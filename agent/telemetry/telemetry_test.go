package telemetry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/config"
	"berth/agent/state"
	"berth/agent/tunnel"
	"berth/internal/pseudonym"
	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	lockTime = testwait.Patience
	testwait.NoLeaks(m)
}

// book is a Book in a folder of its own, and the config that it obeys.
type book struct {
	*Book
	dir string
	cfg atomic.Pointer[config.Config]
	log strings.Builder
}

// newBook returns a Book with a mode, which Run does not run.
func newBook(t *testing.T, mode string) *book {
	t.Helper()
	b := &book{dir: t.TempDir()}
	b.set(t, mode)
	b.Book = New(Config{
		Config: b.cfg.Load, StateDir: b.dir, Version: "1.2", Logger: slog.New(slog.NewTextHandler(&b.log, nil)),
		Tunnels: func() []state.Tunnel {
			return []state.Tunnel{
				{TunnelSpec: state.TunnelSpec{Kind: state.KindDB}, Protocol: "postgres"},
				{TunnelSpec: state.TunnelSpec{Kind: state.KindDB}, Protocol: "postgres"},
				{TunnelSpec: state.TunnelSpec{Kind: state.KindKube}},
			}
		},
	})
	return b
}

func (b *book) set(t *testing.T, mode string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte("telemetry: {mode: "+mode+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	b.cfg.Store(cfg)
}

// everything counts one of each.
func (b *book) everything() {
	of := tunnel.Metered{Name: "secret-name", Cluster: "corp.example.com", Protocol: "postgres", User: "alice", Kind: state.KindDB}
	b.Served(of, 0)
	b.Served(of, time.Minute)
	b.Served(tunnel.Metered{Name: "k", Cluster: "corp.example.com", User: "alice", Kind: state.KindKube}, 0)
	b.Served(tunnel.Metered{Cluster: "corp.example.com", User: "alice", Kind: state.KindDB, Protocol: "made-up"}, 0)
	b.Refused(of, state.CodeAccessDenied)
	b.LoggedIn(time.Second, nil)
	b.LoggedIn(time.Second, errors.New("no"))
	b.Assumed()
	b.Dialled("secret-name", time.Second, nil)
	b.Minted("secret-name", time.Second, nil)
}

func (b *book) read(t *testing.T) Kept {
	t.Helper()
	k, err := Read(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func names(c counts) []string {
	var list []string
	for name := range c {
		list = append(list, name)
	}
	return list
}

// TestCounts: each thing is counted once, on its day, and no name is in the file.
func TestCounts(t *testing.T) {
	b := newBook(t, "local")
	b.everything()
	b.write()
	k := b.read(t)
	if len(k.Days) != 1 {
		t.Fatalf("there are %d days", len(k.Days))
	}
	day := k.Days[0]
	if len(day.Clusters) != 1 || len(day.Users) != 1 || day.Clusters[names(day.Clusters)[0]] != 4 || day.Users[names(day.Users)[0]] != 4 {
		t.Errorf("clients by cluster and user: %v, %v", day.Clusters, day.Users)
	}
	day.Clusters, day.Users = nil, nil
	want := Day{
		Day: time.Now().UTC().Format(time.DateOnly), Versions: []string{"1.2"},
		Features: counts{"login_ok": 1, "login_failed": 1, "assume": 1, "hold": 1},
		Tunnels:  counts{"postgres": 2, "kube": 1}, Clients: counts{"postgres": 2, "kube": 1, "other": 1},
		Refusals: counts{"access_denied": 1},
	}
	if !reflect.DeepEqual(day, want) {
		t.Errorf("it is %+v\nwant  %+v", day, want)
	}
	raw, err := os.ReadFile(Path(b.dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"secret", "corp", "example", "alice", "made-up"} {
		if strings.Contains(string(raw), name) {
			t.Errorf("the file has %q:\n%s", name, raw)
		}
	}
	b.everything()
	b.write()
	if again := b.read(t).Days[0]; again.Clients["postgres"] != 4 || again.Tunnels["postgres"] != 2 {
		t.Errorf("the second time it is %+v", again)
	}
	for i, f := range reflect.VisibleFields(reflect.TypeFor[Day]()) {
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); i >= len(Fields) || Fields[i].Key != tag {
			t.Errorf("the key %s is not explained in its place", tag)
		}
	}
}

// TestOffWritesNothing: not counted, not written, and what was counted before it was
// turned off is forgotten.
func TestOffWritesNothing(t *testing.T) {
	b := newBook(t, "off")
	b.everything()
	b.write()
	b.set(t, "local")
	b.everything()
	b.set(t, "off")
	b.write()
	b.set(t, "local")
	b.write()
	if there, err := os.ReadDir(b.dir); err != nil || len(there) > 0 {
		t.Errorf("the folder has %v: %v", there, err)
	}
	for _, dir := range []string{b.dir, filepath.Join(b.dir, "none")} {
		if err := Reset(dir); err != nil {
			t.Error(err)
		}
	}
	if there, err := os.ReadDir(b.dir); err != nil || len(there) > 0 {
		t.Errorf("after a reset the folder has %v: %v", there, err)
	}
}

// TestTwoInstallationsCannotBeJoined: the same use of the same cluster by the same user
// has no pseudonym in common, nor has the same installation before and after a reset.
func TestTwoInstallationsCannotBeJoined(t *testing.T) {
	seen := make(map[string]string)
	meet := func(b *book, where string) {
		t.Helper()
		b.everything()
		b.write()
		day := b.read(t).Days[0]
		for _, p := range append(names(day.Clusters), names(day.Users)...) {
			if first, met := seen[p]; met {
				t.Errorf("%s is in %s and in %s", p, first, where)
			}
			seen[p] = where
		}
	}
	here, there := newBook(t, "local"), newBook(t, "local")
	meet(here, "one installation")
	meet(there, "another")
	if err := Reset(here.dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(here.dir); err != nil || len(left) != 1 { // the lock
		t.Errorf("a reset leaves %v: %v", left, err)
	}
	meet(here, "the first after a reset")
	if err := Rotate(here.dir); err != nil {
		t.Fatal(err)
	}
	here.everything()
	here.write()
	if day := here.read(t).Days[0]; len(day.Clusters) != 2 || day.Clients["postgres"] != 4 {
		t.Errorf("with a new key the counts are %+v", day)
	}
}

// TestDictionary: whoever has the file and every likely name, but not the key, does not
// find which names they are; whoever has the key does.
func TestDictionary(t *testing.T) {
	b := newBook(t, "local")
	b.everything()
	b.write()
	day := b.read(t).Days[0]
	published := append(names(day.Clusters), names(day.Users)...)
	find := func(key pseudonym.Key) (found int) {
		for _, sort := range []string{"", "cluster", "user", "tunnel", "profile"} {
			for _, name := range []string{"alice", "root", "corp.example.com", "example.com", "secret-name"} {
				if slices.Contains(published, key.Of(sort, name)) {
					found++
				}
			}
		}
		return found
	}
	elsewhere, _, err := pseudonym.Load(KeyPath(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	guesses := []pseudonym.Key{{}, elsewhere, sha256.Sum256([]byte("corp.example.com"))} // as a key per cluster could be
	for i, guess := range guesses {
		if n := find(guess); n > 0 {
			t.Errorf("guess %d finds %d names", i, n)
		}
	}
	own, _, err := pseudonym.Load(KeyPath(b.dir))
	if err != nil {
		t.Fatal(err)
	}
	if n := find(own); n != 2 {
		t.Errorf("its own key finds %d names: the search is broken", n)
	}
}

// TestFile: its user's alone, and bounded in days, names and bytes.
func TestFile(t *testing.T) {
	b := newBook(t, "local")
	b.everything()
	b.write()
	for _, path := range []string{Path(b.dir), KeyPath(b.dir)} {
		info, err := os.Stat(path)
		if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	var most Kept
	now := time.Now()
	for ago := range maxDays + 10 {
		d := most.day(now.UTC().AddDate(0, 0, -ago).Format(time.DateOnly))
		for i := range 2 * maxNames {
			name := fmt.Sprintf("%060d", i)
			d.ran(name)
			for _, c := range []*counts{&d.Features, &d.Tunnels, &d.Clients, &d.Refusals, &d.Clusters, &d.Users} {
				c.add(name, 1<<30)
			}
		}
	}
	if _, err := update(b.dir, now, most); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(Path(b.dir))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxSize {
		t.Errorf("the fullest file has %d bytes", info.Size())
	}
	k := b.read(t)
	if first := k.Days[0]; len(k.Days) != maxDays || len(first.Features) != maxNames+1 || first.Features[other] != maxNames<<30 {
		t.Errorf("it has %d days, the first %d features, %d of them others", len(k.Days), len(first.Features), first.Features[other])
	}
}

// TestOldDays: a day is forgotten when it is too old, and a clock that is wrong for a
// while costs nothing that is kept.
func TestOldDays(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	var k Kept
	for _, ago := range []int{400, maxDays, maxDays - 1, 0} {
		k.day(now.AddDate(0, 0, -ago).Format(time.DateOnly))
	}
	k.forget(time.Unix(0, 0))
	if len(k.Days) != 4 {
		t.Errorf("in 1970 %d days are left", len(k.Days))
	}
	k.forget(now)
	if len(k.Days) != 2 || k.Days[1].Day != "2026-05-01" {
		t.Errorf("left are %+v", k.Days)
	}
}

// TestTrouble: what cannot be written is written later, once said; a file that is none
// is set aside, and a key that is none names what mends it.
func TestTrouble(t *testing.T) {
	b := newBook(t, "local")
	b.everything()
	away := b.dir + "-away"
	if err := os.Rename(b.dir, away); err != nil {
		t.Fatal(err)
	}
	b.write()
	b.everything()
	b.write()
	if n := strings.Count(b.log.String(), "nothing is written down"); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, b.log.String())
	}
	if err := os.Rename(away, b.dir); err != nil {
		t.Fatal(err)
	}
	b.write()
	if got := b.read(t).Days[0].Clients["postgres"]; got != 4 {
		t.Errorf("after the trouble it has %d clients", got)
	}
	for _, text := range []string{
		"", "{", `{"format":2}`, `{"format":1,"days":null}`, `{"format":1,"days":[null]}`,
		`{"format":1,"days":[{"day":"2026-05-01","clients":{"postgres":-1}}]}`,
		`{"format":1,"days":[{"day":"2026-05-01","users":{"\u001b[2J":1}}]}`,
		`{"format":1,"days":[{"day":"2026-05-01","versions":["1\n2"]}]}`, strings.Repeat(" ", maxSize) + "{}",
	} {
		if err := os.WriteFile(Path(b.dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(b.dir); !errors.Is(err, errBroken) {
			t.Errorf("%.20q is read: %v", text, err)
		}
		b.everything()
		b.write()
		if got := b.read(t).Days[0].Clients["postgres"]; got != 2 {
			t.Errorf("after %.20q it has %d clients", text, got)
		}
		if aside, err := os.ReadFile(brokenPath(b.dir)); err != nil || string(aside) != text {
			t.Errorf("%.20q was not set aside: %v", text, err)
		}
	}
	if err := os.WriteFile(KeyPath(b.dir), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.everything()
	b.write()
	if got := b.read(t).Days[0]; got.Clients["postgres"] != 4 || len(got.Clusters) != 2 {
		t.Errorf("after the key was damaged it has %d clients, and %d pseudonyms of one cluster", got.Clients["postgres"], len(got.Clusters))
	}
	if aside, err := os.ReadFile(BrokenKey(b.dir)); err != nil || string(aside) != "short" {
		t.Errorf("the damaged key was not set aside: %v", err)
	}
	if err := Reset(b.dir); err != nil || BrokenKey(b.dir) != "" {
		t.Errorf("a reset leaves %s: %v", BrokenKey(b.dir), err)
	}
}

// TestRun: what is counted is written at once, then at most each half minute, on the
// day that it happened, and at the end.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, "local")
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { b.Run(ctx) })
		clients := func() (n int64) {
			for _, d := range b.read(t).Days {
				n += d.Clients["kube"]
			}
			return n
		}
		served := func() { b.Served(tunnel.Metered{Kind: state.KindKube}, 0) }
		served()
		synctest.Wait()
		if n := clients(); n != 1 {
			t.Errorf("at first %d are written", n)
		}
		served()
		synctest.Wait()
		if n := clients(); n != 1 {
			t.Errorf("a moment later %d are written", n)
		}
		time.Sleep(24 * time.Hour)
		served()
		served()
		synctest.Wait()
		if days := b.read(t).Days; len(days) != 2 || days[0].Clients["kube"] != 2 {
			t.Errorf("a day later it has %+v", days)
		}
		cancel()
		wg.Wait()
		if n := clients(); n != 4 {
			t.Errorf("at the end %d are written", n)
		}
	})
}

// TestTogether: an agent, its successor and a reset do not lose each other's changes.
func TestTogether(t *testing.T) {
	b := newBook(t, "local")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				var one Kept
				one.day("2026-05-01").Clients.add("kube", 1)
				if _, err := update(b.dir, time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC), one); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := b.read(t).Days[0].Clients["kube"]; n != 20 {
		t.Errorf("of 20 changes %d are there", n)
	}
}
