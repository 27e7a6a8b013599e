package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/doctor"
	"berth/tray"
)

func TestSummary(t *testing.T) {
	ok, skip := doctor.Finding{Status: doctor.OK, Text: "fine"}, doctor.Finding{Status: doctor.Skip, Text: "not looked at"}
	poor := doctor.Finding{Status: doctor.Warn, Text: "open to\x1b[31m others", Fix: "close it"}
	bad := doctor.Finding{Status: doctor.Fail, Text: "no tsh"}
	cases := map[string]struct {
		in   []doctor.Finding
		want tray.Checkup
	}{
		"well":      {[]doctor.Finding{ok, skip}, tray.Checkup{Title: "All is well", Text: "The doctor looked at 2 things."}},
		"poor":      {[]doctor.Finding{ok, poor}, tray.Checkup{Title: "All works; 1 thing could be better", Text: "Open to others\n→ close it"}},
		"bad_first": {[]doctor.Finding{poor, bad}, tray.Checkup{Title: "1 thing does not work", Text: "No tsh\nOpen to others\n→ close it"}},
		"logged_out": {
			[]doctor.Finding{ok, {Check: "session", Status: doctor.Warn, Text: "not logged in", Fix: "berth login"}},
			tray.Checkup{Title: "Not logged in; 1 thing could be better", Text: "Not logged in\n→ berth login"},
		},
		"no_tunnel":  {[]doctor.Finding{ok, {Check: "tunnel", Status: doctor.Skip}}, tray.Checkup{Title: "No tunnel is ready", Text: "Nothing else is wrong."}},
		"a_lot":      {[]doctor.Finding{bad, bad, bad, poor}, tray.Checkup{Title: "3 things do not work", Text: "No tsh\nNo tsh\nand 2 more"}},
		"two_to_fix": {[]doctor.Finding{poor, poor}, tray.Checkup{Title: "All works; 2 things could be better", Text: "Open to others\n→ close it\nOpen to others\n→ close it"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, summary(c.in)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDoctorThatCannotRun(t *testing.T) {
	for _, program := range []string{"/nonexistent/berth", "/bin/false"} {
		if found, err := askDoctor(t.Context(), program); err == nil {
			t.Errorf("%s found %v", program, found)
		}
	}
}
