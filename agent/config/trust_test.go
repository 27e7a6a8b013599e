package config

import (
	"testing"
)

func TestTrustProxy(t *testing.T) {
	const entry = `{proxy: "p.example.com:443", ca_file: /etc/ca.pem}`
	for name, tt := range map[string]struct {
		before   string // empty: there is no file
		insecure bool
		want     string
	}{
		"no_file": {"", false, header + "profiles:\n  - " + entry + "\n"},
		"with_tunnels": {
			"version: 1 # mine\ntunnels:\n  - {name: a, kind: db, cluster: c, resource: r}", false,
			"version: 1 # mine\ntunnels:\n  - {name: a, kind: db, cluster: c, resource: r}\nprofiles:\n  - " + entry + "\n",
		},
		"profiles": {
			"profiles:\n  - proxy: other.example.com # the other\n    auth: okta\nversion: 1\n", false,
			"profiles:\n  - proxy: other.example.com # the other\n    auth: okta\n  - " + entry + "\nversion: 1\n",
		},
		"flow":  {"{version: 1}\n", false, "{version: 1, profiles: [" + entry + "]}\n"},
		"empty": {"profiles: []\n", false, "profiles: [" + entry + "]\n"},
		"null":  {"profiles:\n", false, "profiles: [" + entry + "]\n"},
		"there": {"profiles:\n  - " + entry + "\n", false, "profiles:\n  - " + entry + "\n"},
		"other_form_of_the_address": {
			"profiles:\n  - proxy: P.example.com\n    auth: okta # ours\n", false,
			"profiles:\n  - proxy: P.example.com\n    auth: okta # ours\n    ca_file: /etc/ca.pem\n",
		},
		"insecure_instead": {
			"profiles: [" + entry + "]\n", true,
			`profiles: [{proxy: "p.example.com:443", insecure: true}]` + "\n",
		},
		"secure_again": {
			"profiles:\n  - proxy: p.example.com\n    insecure: true # for now\n", false,
			"profiles:\n  - proxy: p.example.com\n    ca_file: /etc/ca.pem\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			testEdit(t, tt.before, func(d *Document) error { return d.trustProxy("p.example.com:443", "/etc/ca.pem", tt.insecure) }, tt.want)
		})
	}
}

func TestSetTSH(t *testing.T) {
	for before, want := range map[string]string{
		"":                                "tsh: {path: /opt/tsh}\n",
		"version: 1\n":                    "version: 1\ntsh: {path: /opt/tsh}\n",
		"tsh: {path: /old/tsh} # mine\n":  "tsh: {path: /opt/tsh} # mine\n",
		"tsh:\n  path: /old/tsh # mine\n": "tsh:\n  path: /opt/tsh # mine\n",
		"{version: 1, tsh: {}}\n":         "{version: 1, tsh: {path: /opt/tsh}}\n",
	} {
		testEdit(t, before, func(d *Document) error { return d.SetTSH("/opt/tsh") }, want)
	}
}
