package archtest

import (
	"os/exec"
	"strings"
	"testing"
)

// floors are the rooms of the agent, the top floor first. A room imports only rooms of
// lower floors, so that each can be read and tested without those above it.
var floors = []string{
	"agent",
	"agent/metrics agent/registry agent/requests agent/telemetry",
	"agent/renew agent/tunnel",
	"agent/kubelocal agent/login agent/recordings",
	"agent/ipc/client agent/ports agent/sessions",
	"agent/access agent/config agent/ipc agent/memory agent/notices agent/process agent/secrets/secretstest agent/tsh agent/tunnel/history",
	"agent/cluster agent/handover agent/install agent/ipc/berthv1 agent/secrets agent/state",
}

// TestFloors checks that imports between rooms go down only.
func TestFloors(t *testing.T) {
	floor := make(map[string]int)
	for n, rooms := range floors {
		for room := range strings.FieldsSeq(rooms) {
			floor["berth/"+room] = n + 1
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "berth/agent/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		names := strings.Fields(line)
		room := names[0]
		if floor[room] == 0 {
			t.Errorf("%s has no floor: add it to the list", room)
			continue
		}
		seen++
		for _, name := range names[1:] {
			if floor[name] != 0 && floor[name] <= floor[room] {
				t.Errorf("%s imports %s, which is not below it", room, name)
			}
		}
	}
	if seen != len(floor) {
		t.Errorf("%d rooms on the floors, %d of them there", len(floor), seen)
	}
}
