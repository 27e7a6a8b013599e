package clientenv

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/testneeds"
)

func TestMake(t *testing.T) {
	testneeds.Unix(t, "names that differ in case are one variable on Windows")
	const both = "127.0.0.1,localhost,::1"
	for _, test := range []struct {
		name                string
		environ, clear, set []string
		want                []string
		upper, lower, grpc  string // of the lists of what needs no proxy
	}{
		{
			name: "clear_and_set", environ: []string{"A=1", "B=2", "AB=3", "C", "D=4"}, clear: []string{"A", "C", "X"}, set: []string{"D=5", "E=6"},
			want: []string{"AB=3", "B=2", "D=5", "E=6"}, upper: both, lower: both,
		},
		{
			name: "prefix", environ: []string{"PGSSLMODE=a", "PGSSL=b", "PGS=c", "pgsslmode=d"}, clear: []string{"PGSSL*"}, set: []string{"PGSSLMODE=disable"},
			want: []string{"PGS=c", "PGSSLMODE=disable", "pgsslmode=d"}, upper: both, lower: both,
		},
		{name: "both", environ: []string{"NO_PROXY=a", "no_proxy=b"}, upper: "a," + both, lower: "b," + both},
		{name: "one_is_for_both", environ: []string{"no_proxy=.corp, 10.0.0.0/8"}, upper: ".corp,10.0.0.0/8," + both, lower: ".corp,10.0.0.0/8," + both},
		{name: "there_already", environ: []string{"NO_PROXY=localhost,x"}, upper: "localhost,x,127.0.0.1,::1", lower: "localhost,x,127.0.0.1,::1"},
		{name: "everything", environ: []string{"NO_PROXY=*"}, upper: "*", lower: "*"},
		{name: "gRPC", environ: []string{"no_grpc_proxy=g"}, upper: both, lower: both, grpc: "g," + both},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := slices.Clone(test.environ)
			var got []string
			lists := make(map[string]string)
			for _, kv := range Make(test.environ, test.clear, test.set) {
				if name, value, _ := strings.Cut(kv, "="); strings.Contains(strings.ToLower(name), "proxy") {
					lists[name] = value
				} else {
					got = append(got, kv)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if lists["NO_PROXY"] != test.upper || lists["no_proxy"] != test.lower || lists["no_grpc_proxy"] != test.grpc {
				t.Errorf("no proxy for %q", lists)
			}
			if !slices.Equal(before, test.environ) {
				t.Error("the environment handed in was changed")
			}
		})
	}
}
