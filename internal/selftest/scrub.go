package selftest

import (
	"cmp"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"berth/internal/doctor"
)

// accountID is what Windows calls a user in names of pipes, and what tells users
// apart in names of folders below the temporary one.
var accountID = regexp.MustCompile(`\bS-1-5-21(?:-\d+)+`)

// scrubber takes out of a text who wrote it, and what is secret.
type scrubber struct {
	environ  []string
	literals []string // pairs of old and new
	names    *regexp.Regexp
}

func newScrubber(dir, program string, environ []string) *scrubber {
	home, _ := os.UserHomeDir() // empty means that there is none to take out
	own := []string{home}
	host, _ := os.Hostname()
	var name string
	if u, err := user.Current(); err == nil {
		name = u.Username[strings.LastIndexByte(u.Username, '\\')+1:] // without Windows' domain
		own = append(own, u.HomeDir)                                  // HOME may say another one
	}
	return scrubberOf(dir, filepath.Dir(program), own, name, host, environ)
}

// scrubberOf returns a scrubber: dir is the test's folder, bin the one that berth is in,
// and homes are the user's.
func scrubberOf(dir, bin string, homes []string, name, host string, environ []string) *scrubber {
	s := &scrubber{environ: environ}
	folders := [][2]string{{bin, "BIN"}, {dir, "TEMP"}}
	for _, home := range homes {
		folders = append(folders, [2]string{home, "HOME"})
	}
	for i := range folders { // macOS has links in its usual paths
		if direct, err := filepath.EvalSymlinks(folders[i][0]); err == nil {
			folders = append(folders, [2]string{direct, folders[i][1]})
		}
	}
	slices.SortStableFunc(folders, func(a, b [2]string) int { return cmp.Compare(len(b[0]), len(a[0])) })
	for _, f := range folders {
		if len(f[0]) > 1 {
			s.literals = append(s.literals, f[0], f[1])
		}
	}
	var names []string
	for _, n := range []string{name, host} {
		if len(n) > 1 && !strings.EqualFold(n, "berth") { // which is the program's name, too
			names = append(names, regexp.QuoteMeta(n))
		}
	}
	if len(names) > 0 {
		s.names = regexp.MustCompile(`(?i)\b(?:` + strings.Join(names, "|") + `)\b`)
	}
	return s
}

// text returns a text that may be shown to anyone.
func (s *scrubber) text(text string) string {
	text = strings.NewReplacer(s.literals...).Replace(text)
	text = accountID.ReplaceAllString(text, "SID")
	if s.names != nil {
		text = s.names.ReplaceAllString(text, "NAME")
	}
	return short(doctor.Redact(text, s.environ))
}
