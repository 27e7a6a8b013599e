package kubeconfig

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"berth/internal/testneeds"
)

// edited changes a kubeconfig the way kubectl does.
func edited(t *testing.T, path string, change func(*api.Config)) {
	t.Helper()
	cfg, err := clientcmd.LoadFromFile(path)
	if err == nil {
		change(cfg)
		err = clientcmd.WriteToFile(*cfg, path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, path string) *api.Config {
	t.Helper()
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// asOthersWrite renames a context, sets a namespace, a proxy, a current context,
// and adds a cluster that is not berth's.
func asOthersWrite(cfg *api.Config) {
	cfg.Contexts["live"] = cfg.Contexts["berth-prod"]
	delete(cfg.Contexts, "berth-prod")
	cfg.Contexts["live"].Namespace = "shop"
	cfg.Contexts["berth-1"].Namespace = "one"
	cfg.Clusters["berth-1"].ProxyURL = "socks5://127.0.0.1:1080"
	cfg.CurrentContext = "live"
	cfg.Clusters["theirs"] = &api.Cluster{Server: "https://example.com"}
}

func checkKept(t *testing.T, cfg *api.Config) {
	t.Helper()
	if cfg.Contexts["berth-prod"] != nil || cfg.Contexts["live"] == nil || cfg.Contexts["live"].Namespace != "shop" ||
		cfg.Contexts["live"].Cluster != "berth-prod" {
		t.Errorf("the renamed context is %+v, and %+v", cfg.Contexts["live"], cfg.Contexts["berth-prod"])
	}
	if cfg.Contexts["berth-1"].Namespace != "one" || cfg.Clusters["berth-1"].ProxyURL != "socks5://127.0.0.1:1080" {
		t.Errorf("the other is %+v, %+v", cfg.Contexts["berth-1"], cfg.Clusters["berth-1"])
	}
	if cfg.Clusters["theirs"] == nil {
		t.Error("a cluster that is not berth's is gone")
	}
}

func TestUpdateKeepsWhatOthersWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	update := func(contexts ...Context) {
		t.Helper()
		if err := Update(t.Context(), path, contexts); err != nil {
			t.Fatal(err)
		}
	}
	update(contexts[:2]...)
	if slurp(t, path) != string(Marshal(contexts[:2])) {
		t.Errorf("the first one is\n%s", slurp(t, path))
	}
	edited(t, path, asOthersWrite)
	was := slurp(t, path)
	update(contexts[:2]...)
	if slurp(t, path) != was {
		t.Error("it was written although nothing changed")
	}

	moved := slices.Clone(contexts[:2])
	moved[0].Server, moved[0].CA, moved[1].ClientKey = "https://127.0.0.1:15009", []byte("new ca"), []byte("new key")
	third := Context{Name: "third", Server: "https://127.0.0.1:15001", ServerName: "third.kube.berth.internal", CA: []byte("ca")}
	update(append(moved, third)...)
	cfg := load(t, path)
	checkKept(t, cfg)
	if cfg.CurrentContext != "live" || cfg.Contexts["berth-third"] == nil {
		t.Errorf("the current context is %q, the new one %+v", cfg.CurrentContext, cfg.Contexts["berth-third"])
	}
	if c := cfg.Clusters["berth-prod"]; c.Server != moved[0].Server || string(c.CertificateAuthorityData) != "new ca" ||
		string(cfg.AuthInfos["berth-1"].ClientKeyData) != "new key" {
		t.Errorf("what is berth's is %+v", c)
	}

	// What programs do to berth's own part does not last.
	edited(t, path, func(cfg *api.Config) {
		cfg.Clusters["berth-1"].InsecureSkipTLSVerify, cfg.Clusters["berth-1"].CertificateAuthorityData = true, nil
		cfg.Clusters["berth-prod"].CertificateAuthority = "/nonexistent"
	})
	update(moved...)
	cfg = load(t, path)
	if c := cfg.Clusters["berth-1"]; c.InsecureSkipTLSVerify || len(c.CertificateAuthorityData) == 0 || cfg.Clusters["berth-prod"].CertificateAuthority != "" {
		t.Errorf("it is %+v", c)
	}
	checkKept(t, cfg)
	if cfg.Contexts["berth-third"] != nil || cfg.Clusters["berth-third"] != nil || cfg.AuthInfos["berth-third"] != nil {
		t.Error("the tunnel that has gone is there")
	}

	// A tunnel goes with its context, whatever that is called.
	update(moved[1])
	cfg = load(t, path)
	if cfg.Contexts["live"] != nil || cfg.CurrentContext != "" || cfg.Contexts["berth-1"].Namespace != "one" {
		t.Errorf("left: %v, current %q", cfg.Contexts, cfg.CurrentContext)
	}
	update()
	if cfg = load(t, path); len(cfg.Contexts) != 0 || cfg.Clusters["theirs"] == nil {
		t.Errorf("left: %v, %v", cfg.Contexts, cfg.Clusters)
	}
}

// TestContextsOfTheUser: a context of the user's own stays theirs, whatever becomes
// of berth's for the same cluster, in berth's own file and in another.
func TestContextsOfTheUser(t *testing.T) {
	own := filepath.Join(t.TempDir(), "kubeconfig")
	m := merger(t, theirs)
	update := func() {
		t.Helper()
		if err := Update(t.Context(), own, contexts[:1]); err != nil {
			t.Fatal(err)
		}
	}
	merge := func() {
		t.Helper()
		list, err := Contexts([]byte(slurp(t, own)))
		if err == nil {
			_, err = m.Merge(t.Context(), list, false)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	update()
	merge()
	for path, again := range map[string]func(){own: update, m.Path: merge} {
		edited(t, path, func(cfg *api.Config) {
			cfg.Contexts["live"] = cfg.Contexts["berth-prod"]
			delete(cfg.Contexts, "berth-prod")
			mine := api.NewContext()
			mine.Cluster, mine.AuthInfo, mine.Namespace = "berth-prod", "berth-prod", "mine"
			cfg.Contexts["mine"] = mine
		})
		again()
		if cfg := load(t, path); cfg.Contexts["berth-prod"] != nil || cfg.Contexts["live"] == nil {
			t.Errorf("renamed: %v", cfg.Contexts)
		}
		edited(t, path, func(cfg *api.Config) { delete(cfg.Contexts, "live") })
		again()
		cfg := load(t, path)
		if c := cfg.Contexts["berth-prod"]; c == nil || c.Namespace == "mine" || len(cfg.Contexts["mine"].Extensions) > 0 {
			t.Errorf("deleted: berth's is %+v, the user's %+v", c, cfg.Contexts["mine"])
		}
		if ContextIn(path, "prod") != "berth-prod" {
			t.Errorf("the context is %q", ContextIn(path, "prod"))
		}
	}
	if err := Update(t.Context(), own, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{own, m.Path} {
		if cfg := load(t, path); cfg.Contexts["mine"] == nil || cfg.Contexts["berth-prod"] != nil {
			t.Errorf("without the tunnel: %v", cfg.Contexts)
		}
	}
}

func TestUpdateMendsTheFile(t *testing.T) {
	testneeds.Unix(t, "Windows knows no modes")
	path := filepath.Join(t.TempDir(), "kubeconfig")
	for name, prepare := range map[string]func() error{
		"broken":   func() error { return os.WriteFile(path, []byte("clusters: ["), 0o600) },
		"readable": func() error { return os.Chmod(path, 0o644) },
		"read_only": func() error {
			_ = os.WriteFile(path, nil, 0o600)
			return os.Chmod(path, 0o400)
		},
		"stale_lock": func() error {
			_ = os.WriteFile(path, nil, 0o600)
			err := os.WriteFile(path+".lock", nil, 0o600)
			if err == nil {
				err = os.Chtimes(path+".lock", time.Now(), time.Now().Add(-2*staleLock))
			}
			return err
		},
	} {
		if err := Update(t.Context(), path, contexts[:1]); err != nil {
			t.Fatal(err)
		}
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
		if err := Update(t.Context(), path, contexts[:1]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 || load(t, path).Contexts["berth-prod"] == nil {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		_ = os.Remove(path)
	}
}

// TestMergeKeepsWhatOthersWrite merges once more after the same changes.
func TestMergeKeepsWhatOthersWrite(t *testing.T) {
	own := filepath.Join(t.TempDir(), "kubeconfig")
	if err := Update(t.Context(), own, contexts[:2]); err != nil {
		t.Fatal(err)
	}
	m := merger(t, theirs)
	merge := func() {
		t.Helper()
		list, err := Contexts([]byte(slurp(t, own)))
		if err == nil {
			_, err = m.Merge(t.Context(), list, false)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	merge()
	edited(t, m.Path, asOthersWrite)
	merge()
	checkKept(t, load(t, m.Path))
	changed := slices.Clone(contexts[:2])
	changed[0].CA = []byte("new ca")
	if err := Update(t.Context(), own, changed); err != nil {
		t.Fatal(err)
	}
	merge()
	cfg := load(t, m.Path)
	checkKept(t, cfg)
	if string(cfg.Clusters["berth-prod"].CertificateAuthorityData) != "new ca" || cfg.CurrentContext != "live" {
		t.Errorf("the CA is %s, the current context %q", cfg.Clusters["berth-prod"].CertificateAuthorityData, cfg.CurrentContext)
	}
	if res, err := m.Undo(t.Context()); err != nil || len(res.Removed) != 2 {
		t.Fatalf("undone: %+v, %v", res, err)
	}
	if cfg = load(t, m.Path); len(cfg.Contexts) != 1 || cfg.Contexts["minikube"] == nil || cfg.Clusters["theirs"] == nil {
		t.Errorf("left: %v", cfg.Contexts)
	}

	// What was added to berth's own comes along, under berth's names.
	edited(t, own, asOthersWrite)
	m = merger(t, theirs)
	merge()
	cfg = load(t, m.Path)
	if cfg.Contexts["berth-prod"].Namespace != "shop" || cfg.Clusters["berth-1"].ProxyURL == "" || cfg.CurrentContext != "minikube" {
		t.Errorf("merged: %+v, %+v", cfg.Contexts["berth-prod"], cfg.Clusters["berth-1"])
	}
}

// TestAdopt has a program change the kubeconfig that it was started with.
func TestAdopt(t *testing.T) {
	dir := t.TempDir()
	own, used := filepath.Join(dir, "own"), filepath.Join(dir, "used")
	if err := Update(t.Context(), own, contexts[:2]); err != nil {
		t.Fatal(err)
	}
	edited(t, own, func(cfg *api.Config) { cfg.Contexts["berth-1"].Namespace = "one" })
	run := func(change func(*api.Config)) *api.Config {
		t.Helper()
		before, err := Select([]byte(slurp(t, own)), "prod")
		if err == nil {
			err = Write(used, before)
		}
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			edited(t, used, change)
		}
		if err := Adopt(t.Context(), own, "prod", before, []byte(slurp(t, used))); err != nil {
			t.Fatal(err)
		}
		return load(t, used)
	}
	was := slurp(t, own)
	run(nil)
	if slurp(t, own) != was {
		t.Error("berth's own was written although nothing changed")
	}
	run(func(cfg *api.Config) {
		cfg.Contexts["live"] = cfg.Contexts["berth-prod"]
		delete(cfg.Contexts, "berth-prod")
		cfg.Contexts["live"].Namespace = "shop"
		cfg.CurrentContext = "live"
		cfg.Clusters["berth-prod"].ProxyURL = "http://127.0.0.1:1"
		cfg.Clusters["berth-prod"].Server = "https://elsewhere"
	})
	next := run(nil)
	if next.CurrentContext != "live" || next.Contexts["live"].Namespace != "shop" || next.Clusters["berth-prod"].ProxyURL == "" {
		t.Errorf("the next program gets %+v of %v", next.Contexts["live"], next.Contexts)
	}
	if next.Clusters["berth-prod"].Server != contexts[0].Server {
		t.Errorf("the server is %q", next.Clusters["berth-prod"].Server)
	}
	cfg := load(t, own)
	if cfg.CurrentContext != "" || cfg.Contexts["berth-1"].Namespace != "one" || cfg.Contexts["berth-prod"] != nil {
		t.Errorf("berth's own: current %q, %v", cfg.CurrentContext, cfg.Contexts)
	}
	run(func(cfg *api.Config) { clear(cfg.Contexts) })
	if load(t, own).Contexts["live"] == nil {
		t.Error("berth's own has no context of the tunnel")
	}
}

func TestMergeForced(t *testing.T) {
	testneeds.Unix(t, "Windows knows no modes")
	m := merger(t, theirs)
	if err := os.Chmod(m.Path, 0o644); err != nil {
		t.Fatal(err)
	}
	if res, err := m.Merge(t.Context(), contexts, true); err != nil || !res.Changed {
		t.Fatalf("merged: %+v, %v", res, err)
	}
	if info, _ := os.Stat(m.Path); info.Mode().Perm() != 0o644 {
		t.Errorf("the mode is %v", info.Mode())
	}
	if _, err := m.Merge(t.Context(), contexts, false); err == nil || !strings.Contains(err.Error(), "(mode 0644)") {
		t.Errorf("merged again: %v", err)
	}
	if got := Merged(m.Path, t.TempDir(), m.Record); len(got) != 1 || got[0] != m.Path {
		t.Errorf("merged into %q", got)
	}
	if _, err := m.Undo(t.Context()); err != nil {
		t.Errorf("undone: %v", err)
	}
	if got := Merged(m.Path, t.TempDir(), m.Record); len(got) != 0 {
		t.Errorf("merged into %q", got)
	}
}
