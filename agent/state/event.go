package state

import "time"

// Event is one line of a tunnel's history, in plain words.
type Event struct {
	At   time.Time `json:"at"`
	Kind EventKind `json:"kind"`
	Text string    `json:"text"` // `psql (pid 812) waited 21 s for a login`
	// Until is when the last of several happened that share this line, or
	// when the cert it is about ends; null when neither applies.
	Until *time.Time `json:"until"`
}

// EventKind says what an Event is about.
type EventKind string

// The kinds of events.
const (
	EventConnected EventKind = "connected" // clients that were served at once
	EventWaited    EventKind = "waited"    // clients that were held
	EventRefused   EventKind = "refused"   // clients that were turned away
	EventBroken    EventKind = "broken"    // connections that the other side broke
	EventStranger  EventKind = "stranger"  // clients that spoke another protocol than the tunnel's
	EventState     EventKind = "state"     // the tunnel's state, its port's included
	EventCert      EventKind = "cert"      // a new cert
	EventConfig    EventKind = "config"    // the config file, or a command
)

// PlotPoint is how a tunnel was used in one span of time.
type PlotPoint struct {
	At          time.Time `json:"at"`
	Span        Duration  `json:"span"`
	Connections int64     `json:"connections"` // the most at once
	BytesIn     int64     `json:"bytes_in"`
	BytesOut    int64     `json:"bytes_out"`
	Held        Duration  `json:"held"` // the longest that a client was held
	Dial        Duration  `json:"dial"` // the longest that connecting took
}
