package kubeconfig

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"berth/internal/testneeds"
	"berth/internal/wake"
)

var contexts = []Context{
	{
		Name: "prod", Server: "https://127.0.0.1:15001", ServerName: "prod.kube.berth.internal",
		CA: []byte("ca"), ClientCert: []byte("cert"), ClientKey: []byte("key"),
	},
	{
		Name: "1", Server: "https://127.0.0.1:15002", ServerName: "1.kube.berth.internal",
		CA: []byte("ca"), ClientCert: []byte("cert"), ClientKey: []byte("key"),
	},
	{
		Name: "exec", Server: "https://proxy.example.com:443", ServerName: "kube-teleport-proxy-alpn.proxy.example.com", CA: []byte("host ca"),
		Exec: &Exec{Command: "/usr/bin/berth", Args: []string{"kube", "credentials", "--cluster", "c", "--kube-cluster", "k: \"v\""}, Env: []string{"BERTH_HOME=/home/a=b"}},
	},
}

// TestClientcmdReadsTheSame reads with Kubernetes' own package what was
// written here.
func TestClientcmdReadsTheSame(t *testing.T) {
	data := Marshal(contexts)
	cfg, err := clientcmd.Load(data)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	prod, user := cfg.Clusters["berth-prod"], cfg.AuthInfos["berth-1"]
	if prod.Server != "https://127.0.0.1:15001" || prod.TLSServerName != "prod.kube.berth.internal" || string(prod.CertificateAuthorityData) != "ca" {
		t.Errorf("cluster is %+v", prod)
	}
	if string(user.ClientCertificateData) != "cert" || string(user.ClientKeyData) != "key" {
		t.Errorf("user is %+v", user)
	}
	exec := cfg.AuthInfos["berth-exec"].Exec
	want := &api.ExecConfig{
		Command: "/usr/bin/berth", Args: contexts[2].Exec.Args, APIVersion: "client.authentication.k8s.io/v1",
		Env: []api.ExecEnvVar{{Name: "BERTH_HOME", Value: "/home/a=b"}}, InteractiveMode: api.NeverExecInteractiveMode,
	}
	if diff := cmp.Diff(want, exec, cmp.AllowUnexported(api.ExecConfig{})); diff != "" {
		t.Errorf("exec differs (-want +got):\n%s", diff)
	}
	if cfg.CurrentContext != "" {
		t.Errorf("the current context is %q", cfg.CurrentContext)
	}
	for _, name := range []string{"berth-prod", "berth-1", "berth-exec"} {
		if err := clientcmd.ConfirmUsable(*cfg, name); err != nil {
			t.Error(err)
		}
	}
	if !bytes.Equal(data, Marshal(contexts)) {
		t.Error("the second time it is written otherwise")
	}
	if _, err := clientcmd.Load(Marshal(nil)); err != nil {
		t.Errorf("without any context: %v", err)
	}
}

func TestSelect(t *testing.T) {
	data, err := Select(Marshal(contexts), "1")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.Load(data)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.CurrentContext != "berth-1" || len(cfg.Contexts) != 1 || len(cfg.Clusters) != 1 || len(cfg.AuthInfos) != 1 {
		t.Errorf("selected: %s", data)
	}
	if err := clientcmd.ConfirmUsable(*cfg, ""); err != nil {
		t.Error(err)
	}
	if _, err := Select(Marshal(contexts), "other"); !errors.Is(err, errNoContext) {
		t.Errorf("a context that is not there: %v", err)
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := Write(path, Marshal(contexts)); err != nil {
		t.Fatal(err)
	}
	was, _ := os.Stat(path)
	if was.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v", was.Mode())
	}
	if err := Write(path, Marshal(contexts)); err != nil {
		t.Fatal(err)
	}
	if is, _ := os.Stat(path); !os.SameFile(was, is) {
		t.Error("the same content was written again")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, Marshal(contexts)); err != nil {
		t.Fatal(err)
	}
	if is, _ := os.Stat(path); is.Mode().Perm() != 0o600 {
		t.Error("others may read it still")
	}
}

const theirs = `# my clusters
apiVersion: v1
kind: Config
current-context: minikube # do not touch
preferences: {}
clusters:
- name: minikube
  cluster: {server: "https://192.168.49.2:8443", insecure-skip-tls-verify: true}
contexts:
- name: minikube
  context: {cluster: minikube, user: minikube, namespace: dev}
users:
- name: minikube
  user:
    token: s3cret # from the wiki
`

func merger(t *testing.T, content string) Merger {
	t.Helper()
	dir := t.TempDir()
	m := Merger{Path: filepath.Join(dir, "home", ".kube", "config"), Record: filepath.Join(dir, "record.json")}
	if content != "" {
		if err := os.MkdirAll(filepath.Dir(m.Path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.Path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func slurp(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestMergeAndUndo merges into files of all kinds, checks that everything of
// the user's is still there, and takes it back.
func TestMergeAndUndo(t *testing.T) {
	tests := map[string]string{
		"usual":       theirs,
		"none":        "",
		"empty":       "\n",
		"json":        `{"apiVersion":"v1","kind":"Config","current-context":"minikube","clusters":[],"contexts":null,"users":[]}`,
		"only_a_list": "clusters:\n- {name: x, cluster: {server: https://x}}\n",
		"three_dots":  "---\n" + theirs,
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			m := merger(t, content)
			res, err := m.Merge(t.Context(), contexts, false)
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Added) != 3 || !res.Changed {
				t.Errorf("result is %+v", res)
			}
			before, err := clientcmd.Load([]byte(content))
			if err != nil {
				t.Fatal(err)
			}
			after, err := clientcmd.LoadFromFile(m.Path)
			if err != nil {
				t.Fatalf("%v\n%s", err, slurp(t, m.Path))
			}
			if after.CurrentContext != before.CurrentContext {
				t.Errorf("current context was %q and is %q", before.CurrentContext, after.CurrentContext)
			}
			for name, c := range before.Contexts {
				if got := after.Contexts[name]; got == nil || got.Cluster != c.Cluster || got.Namespace != c.Namespace {
					t.Errorf("context %s is %+v", name, got)
				}
			}
			if err := clientcmd.ConfirmUsable(*after, "berth-prod"); err != nil {
				t.Error(err)
			}
			if content == theirs && !strings.Contains(slurp(t, m.Path), "# from the wiki") {
				t.Errorf("comments are lost:\n%s", slurp(t, m.Path))
			}
			if again, err := m.Merge(t.Context(), contexts, false); err != nil || again.Changed {
				t.Errorf("merged again: %+v, %v", again, err)
			}
			if _, err := m.Merge(t.Context(), contexts[:1], false); err != nil { // one is left over
				t.Fatal(err)
			}
			if after, _ = clientcmd.LoadFromFile(m.Path); len(after.Contexts) != len(before.Contexts)+1 {
				t.Errorf("contexts are %v", after.Contexts)
			}
			if _, err := m.Undo(t.Context()); err != nil {
				t.Fatal(err)
			}
			if content == "" {
				if _, err := os.Stat(m.Path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the file that was not there is there: %v", err)
				}
			} else if diff := cmp.Diff(content, slurp(t, m.Path)); diff != "" {
				t.Errorf("after the undoing (-before +after):\n%s", diff)
			}
			if left, _ := filepath.Glob(m.Path + "*"); len(left) > 1 {
				t.Errorf("left behind: %v", left)
			}
			if _, err := m.Undo(t.Context()); !errors.Is(err, ErrNothing) {
				t.Errorf("undone twice: %v", err)
			}
		})
	}
}

// TestUndoOfSeveral merges into two files, one of which was not there, and takes both
// back to the byte, the one by its path from where it is.
func TestUndoOfSeveral(t *testing.T) {
	one := merger(t, theirs)
	two := Merger{Path: filepath.Join(t.TempDir(), "config"), Record: one.Record}
	for _, m := range []Merger{one, two} {
		if _, err := m.Merge(t.Context(), contexts, false); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(filepath.Dir(one.Path))
	if got := Merged("", t.TempDir(), one.Record); len(got) != 2 {
		t.Errorf("merged into %q", got)
	}
	relative := Merger{Path: filepath.Base(one.Path), Record: one.Record}
	for _, m := range []Merger{relative, two} {
		if _, err := m.Undo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(theirs, slurp(t, one.Path)); diff != "" {
		t.Errorf("after the undoing (-before +after):\n%s", diff)
	}
	for _, gone := range []string{two.Path, one.Path + backupSuffix, one.Record} {
		if _, err := os.Stat(gone); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", gone, err)
		}
	}
}

// TestUndoKeepsLaterChanges has the user change the file after the merge.
func TestUndoKeepsLaterChanges(t *testing.T) {
	m := merger(t, theirs)
	if _, err := m.Merge(t.Context(), contexts, false); err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(slurp(t, m.Path), "namespace: dev", "namespace: test", 1)
	if err := os.WriteFile(m.Path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	res, err := m.Undo(t.Context())
	if err != nil || len(res.Removed) != 3 {
		t.Fatalf("undone: %+v, %v", res, err)
	}
	cfg, err := clientcmd.LoadFromFile(m.Path)
	if err != nil || len(cfg.Contexts) != 1 || cfg.Contexts["minikube"].Namespace != "test" || cfg.CurrentContext != "minikube" {
		t.Errorf("left is %s, %v", slurp(t, m.Path), err)
	}
}

func TestMergeThroughALink(t *testing.T) {
	m := merger(t, theirs)
	link := filepath.Join(t.TempDir(), "link")
	testneeds.Here(t, "symbolic links", os.Symlink(m.Path, link))
	file := m.Path
	m.Path = link
	res, err := m.Merge(t.Context(), contexts, false)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Lstat(link); info.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
	if slurp(t, res.Backup) != theirs {
		t.Error("the copy is not what there was")
	}
	if _, err := m.Undo(t.Context()); err != nil || slurp(t, file) != theirs {
		t.Errorf("undone: %v", err)
	}
}

// TestMergeRefuses tries files that are not to be touched, and looks that they
// are not.
func TestMergeRefuses(t *testing.T) {
	broken := func(err error) bool { return errors.As(err, new(*BrokenError)) }
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	exposed := func(mode fs.FileMode) func(error) bool {
		return func(err error) bool {
			e, ok := errors.AsType[*ExposedError](err)
			return ok && e.Mode == mode
		}
	}
	type refusal struct {
		content string
		prepare func(path string) error
		want    func(error) bool
	}
	tests := map[string]refusal{
		"not_yaml":       {"clusters: [", nil, broken},
		"tabs":           {"clusters:\n\t- x", nil, broken},
		"a_word":         {"hello", nil, broken},
		"another_kind":   {"kind: Pod\napiVersion: v1\n", nil, broken},
		"no_list":        {"clusters: {a: b}\n", nil, broken},
		"key_twice":      {"kind: Config\nkind: Config\n", nil, broken},
		"kubectl_cannot": {"kind: Config\napiVersion: v1\nclusters:\n- name: a\n  cluster: {insecure-skip-tls-verify: sometimes}\n", nil, broken},
		"old_version":    {"kind: Config\napiVersion: v0\n", nil, broken},
		"binary":         {"\x00\x01", nil, broken},
		"read_only":      {theirs, func(p string) error { return os.Chmod(p, 0o400) }, is(ErrReadOnly)},
		"being_changed":  {theirs, func(p string) error { return os.WriteFile(p+".lock", nil, 0o600) }, is(ErrBusy)},
		"others_read":    {theirs, func(p string) error { return os.Chmod(p, 0o644) }, exposed(0o644)},
		"group_reads":    {theirs, func(p string) error { return os.Chmod(p, 0o640) }, exposed(0o640)},
		"others_write":   {theirs, func(p string) error { return os.Chmod(p, 0o602) }, exposed(0o602)},
		"name_is_theirs": {strings.ReplaceAll(theirs, "minikube", "berth-prod"), nil, is(ErrForeign)},
	}
	if runtime.GOOS == "windows" { // it knows no modes
		maps.DeleteFunc(tests, func(name string, _ refusal) bool {
			return slices.Contains([]string{"others_read", "group_reads", "others_write"}, name)
		})
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := merger(t, tt.content)
			if tt.prepare != nil {
				if err := tt.prepare(m.Path); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := m.Merge(t.Context(), contexts, false); !tt.want(err) {
				t.Errorf("merged: %v", err)
			}
			if slurp(t, m.Path) != tt.content {
				t.Error("the file was changed")
			}
			_ = os.Remove(m.Path + ".lock")
			if left, _ := filepath.Glob(m.Path + "?*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if _, err := os.Stat(m.Record); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the merge that was refused is remembered: %v", err)
			}
		})
	}
}

// TestCheckSeesWhatIsLost makes changes that no merge may make.
func TestCheckSeesWhatIsLost(t *testing.T) {
	for name, change := range map[string][2]string{
		"current_context": {"current-context: minikube", "current-context: other"},
		"server":          {"192.168.49.2", "192.168.49.3"},
		"a_token":         {"s3cret", "secret"},
		"a_name":          {"name: minikube", "name: minikub"},
	} {
		after := strings.Replace(theirs, change[0], change[1], 1)
		if after == theirs {
			t.Fatalf("%s: there is no %q to change", name, change[0])
		}
		if err := check([]byte(theirs), []byte(after)); !errors.Is(err, errOthers) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := check([]byte(theirs), []byte("kind: Pod")); err == nil {
		t.Error("a Pod would have been written")
	}
	if err := check([]byte(theirs), []byte(theirs)); err != nil {
		t.Error(err)
	}
}

// TestMergeWaitsForTheLock has another program finish its change in time, which in the
// bubble is time that a busy machine cannot take.
func TestMergeWaitsForTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := merger(t, theirs)
		if err := os.WriteFile(m.Path+".lock", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		go func() {
			wake.Sleep(t.Context(), 200*time.Millisecond)
			_ = os.WriteFile(m.Path, []byte(strings.Replace(theirs, "dev", "late", 1)), 0o600)
			_ = os.Remove(m.Path + ".lock")
		}()
		if _, err := m.Merge(t.Context(), contexts, false); err != nil {
			t.Fatal(err)
		}
		if cfg, err := clientcmd.LoadFromFile(m.Path); err != nil || cfg.Contexts["minikube"].Namespace != "late" {
			t.Errorf("the other program's change is lost: %v", err)
		}
	})
}

func TestTarget(t *testing.T) {
	dir := t.TempDir()
	there, missing := filepath.Join(dir, "there"), filepath.Join(dir, "missing")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sep := string(filepath.ListSeparator)
	for list, want := range map[string]string{
		"":                               filepath.Join(dir, ".kube", "config"),
		sep:                              filepath.Join(dir, ".kube", "config"),
		missing:                          missing,
		missing + sep + there:            there,
		there + sep + missing:            there,
		sep + missing + sep + dir + "/x": dir + "/x",
	} {
		if got := Target(list, dir); got != want {
			t.Errorf("Target(%q) = %q, want %q", list, got, want)
		}
	}
}

func FuzzMerge(f *testing.F) {
	f.Add(theirs)
	f.Add("{}")
	f.Add("a: &x [*x]\nclusters:\n- *x\n")
	f.Fuzz(func(t *testing.T, content string) {
		doc, err := parse([]byte(content))
		if err != nil {
			return
		}
		add(doc, contexts)
		out := encode(doc)
		if _, err := parse(out); err != nil {
			t.Errorf("what was written cannot be read: %v\n%s", err, out)
		}
	})
}
