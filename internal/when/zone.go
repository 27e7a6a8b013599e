package when

import (
	"encoding/binary"
	"strings"
	"time"
)

// unknown reports whether the local zone was asked for and not found, so that
// instants are shown in UTC.
var unknown bool

// UseZone makes the zone of the environment variable TZ the local one, where
// the standard library has not found it: it knows no rules like CET-1CEST. If
// neither does, instants are marked as UTC. Call it once, before anything words
// an instant; lookup is os.LookupEnv.
func UseZone(lookup func(string) (string, bool)) {
	tz, set := lookup("TZ")
	tz = strings.TrimPrefix(tz, ":")
	if time.Local.String() != "UTC" || set && (tz == "" || tz == "UTC") {
		return // found, or wanted
	}
	if zone, ok := ruled(tz); ok {
		time.Local = zone
		return
	}
	unknown = true
}

// ruled returns the zone with a rule of POSIX's TZ. The standard library reads
// such rules at the end of zone files, so the rule is put into one that has
// nothing else.
func ruled(rule string) (*time.Location, bool) {
	const unnamed = "?"
	if rule == "" || strings.Contains(rule, "\n") {
		return nil, false
	}
	head := func(types, chars uint32) []byte {
		b := append([]byte("TZif2"), make([]byte, 15)...)
		for _, n := range []uint32{0, 0, 0, 0, types, chars} {
			b = binary.BigEndian.AppendUint32(b, n)
		}
		return b
	}
	file := append(head(0, 0), head(1, 2)...) // an empty part of the old format, then the new one
	file = append(file, 0, 0, 0, 0, 0, 0)     // the only type: no offset, not summer, the first name
	file = append(file, unnamed+"\x00\n"+rule+"\n"...)
	zone, err := time.LoadLocationFromTZData(rule, file)
	if err != nil {
		return nil, false
	}
	name, _ := time.Unix(0, 0).In(zone).Zone()
	return zone, name != unnamed // that of a rule that cannot be read
}

// Format is t.Format in local time, with "UTC" after it if the local zone is not
// known.
func Format(t time.Time, layout string) string {
	s := t.Local().Format(layout)
	if unknown {
		s += " UTC"
	}
	return s
}
