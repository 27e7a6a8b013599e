//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/internal/simcluster"
)

// dialogue is one thing a person does with tsh.
type dialogue struct {
	name   string
	args   []string // PROXY and USER stand for the world's own
	answer string   // typed at the password prompt, on a terminal; empty: no terminal
	loose  bool     // compare how it ends and the files it leaves, not the words
}

var dialogues = []dialogue{
	{name: "status_before_a_login", args: []string{"status"}},
	{name: "db_ls_before_a_login", args: []string{"db", "ls"}},
	{name: "login_without_a_terminal", args: []string{"login", "--proxy=PROXY", "--user=USER", "--auth=local"}},
	{name: "login_with_a_wrong_password", args: []string{"login", "--proxy=PROXY", "--user=USER", "--auth=local"}, answer: "wrong-horse-battery"},
	{name: "login_with_an_unknown_connector", args: []string{"login", "--proxy=PROXY", "--user=USER", "--auth=nowhere"}},
	{name: "login_to_no_proxy", args: []string{"login", "--proxy=127.0.0.1:1", "--user=USER"}},
	{name: "login", args: []string{"login", "--proxy=PROXY", "--user=USER", "--auth=local"}, answer: "PASSWORD"},
	{name: "login_while_logged_in", args: []string{"login", "--proxy=PROXY", "--user=USER"}},
	{name: "login_while_logged_in_without_flags", args: []string{"login"}},
	{name: "status", args: []string{"status"}},
	{name: "db_ls", args: []string{"db", "ls"}, loose: true},
	{name: "request_ls", args: []string{"request", "ls", "--format=json"}},
	{name: "db_login", args: []string{"db", "login", "--db-user=app", "--db-name=appdb", "pg"}, loose: true},
	{name: "db_login_to_nowhere", args: []string{"db", "login", "--db-user=app", "--db-name=appdb", "nowhere"}, loose: true},
	{name: "db_logout", args: []string{"db", "logout", "pg"}, loose: true},
	{name: "logout", args: []string{"logout"}},
	{name: "logout_again", args: []string{"logout"}},
	{name: "status_after_the_logout", args: []string{"status"}},
}

// TestFakeTSHIsLikeTSH says the same to the real tsh and to the fake one: the
// words, the exit codes and the files they leave must agree.
func TestFakeTSHIsLikeTSH(t *testing.T) {
	p := newPerson(t, roleDB)
	p.compare(t, newSimulation(t, p), dialogues)
}

// kubeDialogues are those about Kubernetes clusters.
var kubeDialogues = []dialogue{
	{name: "kube_login", args: []string{"login", "--proxy=PROXY", "--user=USER", "--auth=local"}, answer: "PASSWORD", loose: true},
	{name: "kube_ls", args: []string{"kube", "ls"}},
	{name: "kube_ls_quiet", args: []string{"kube", "ls", "-q"}},
	{name: "kube_ls_json", args: []string{"kube", "ls", "--format=json"}, loose: true},
	{name: "kube_credentials", args: []string{"kube", "credentials", "--kube-cluster=prod", "--teleport-cluster=ref.test", "--proxy=PROXY"}, loose: true},
	{name: "kube_credentials_of_nothing", args: []string{"kube", "credentials", "--kube-cluster=nix", "--teleport-cluster=ref.test", "--proxy=PROXY"}},
	{name: "proxy_kube_of_nothing", args: []string{"proxy", "kube", "nix"}},
}

// TestFakeTSHIsLikeTSHWithKubernetes does the same for what needs Kubernetes
// clusters.
func TestFakeTSHIsLikeTSHWithKubernetes(t *testing.T) {
	p := newPerson(t, roleKube)
	labels := map[string]string{"env": "e2e"}
	sim, err := simcluster.Start(simcluster.Config{
		Name: "ref.test", ProxyHost: "127.0.0.1",
		Users: []simcluster.User{{Name: p.name, Password: p.password, Roles: []string{roleKube}, Logins: []string{"nobody"}}},
		Roles: []simcluster.Role{{Name: roleKube, KubeGroups: []string{"system:masters"}}},
		Kubes: []simcluster.Kube{{Name: kubeProd, Labels: labels}, {Name: kubeDev, Labels: labels}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	p.compare(t, sim, kubeDialogues)
}

// compare has the dialogues with both.
func (p *person) compare(t *testing.T, sim *simcluster.Cluster, dialogues []dialogue) {
	t.Helper()
	fake := shell{tsh: filepath.Join(p.dir, "bin", "tsh"), caFile: filepath.Join(p.dir, "sim-ca.pem"), dir: p.dir}
	if err := sim.WriteWebCA(fake.caFile); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", fake.tsh, "berth/internal/simcluster/cmd/tsh")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the fake tsh: %v\n%s", err, out)
	}
	for _, d := range dialogues {
		t.Run(d.name, func(t *testing.T) {
			reality := p.say(t, p.shell(), lab.teleport.addr(), p.tshHome, d)
			fake := p.say(t, fake, sim.ProxyAddr(), filepath.Join(p.dir, "fake"), d)
			if diff := cmp.Diff(strings.Split(reality, "\n"), strings.Split(fake, "\n")); diff != "" {
				t.Errorf("the fake tsh (+) differs from the real one (-):\n%s", diff)
			}
			t.Logf("real:\n%s", reality)
		})
	}
}

// say has the dialogue and returns what can be seen of it afterwards.
func (p *person) say(t *testing.T, sh shell, proxyAddr, home string, d dialogue) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	replace := strings.NewReplacer("PROXY", proxyAddr, "USER", p.name, "PASSWORD", p.password)
	var args []string
	for _, arg := range d.args {
		args = append(args, replace.Replace(arg))
	}
	var lines []string
	var code int
	if d.answer != "" {
		screen, c, err := sh.onTerminal(ctx, home, passwordPrompt, replace.Replace(d.answer), args...)
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", sh.tsh, args, err, screen)
		}
		lines, code = []string{"terminal:", screen}, c
	} else {
		r, err := run(ctx, sh.env(home), "", sh.tsh, args...)
		if err != nil {
			t.Fatalf("%s %q: %v", sh.tsh, args, err)
		}
		lines, code = []string{"stdout:", r.out, "stderr:", r.err}, r.code
	}
	if d.loose {
		lines = nil
	}
	lines = append(lines, fmt.Sprintf("exit code %d", code))
	found, err := files(home)
	if err == nil { // there is no home before the first login
		var names []string
		for name, mode := range found {
			names = append(names, name+" "+mode.String())
		}
		slices.Sort(names)
		lines = append(append(lines, "files:"), names...)
	}
	text := strings.Join(lines, "\n")
	text = strings.NewReplacer(p.name, "USER", proxyAddr, "PROXY", "\r\n", "\n").Replace(text)
	return changingText.ReplaceAllString(text, "TIME")
}

// changingText is what two logins a moment apart say differently.
var changingText = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} \w+|\d+h\d+m(\d+s)?`)
