// Package webpage recognises HTTP requests that a foreign web page had a browser
// make: any page can have it call a port of this machine.
package webpage

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// dockerHost is what Docker Desktop's containers call this machine's loopback. Where the
// machine itself knows the name, browsers mark no foreign page's request to it: to them
// it is no local host.
const dockerHost = "host.docker.internal"

// Foreign returns why a request looks like a foreign web page's; empty means that it
// does not. own reports which Host names, in lower case and without a port, are the
// port's own besides loopback addresses, localhost and what containers call it.
//
// A page must have a name of its own, in Host if the name was made to point to
// this machine, else in Origin, and browsers set both. Everything else is a
// client's: pages of this machine, such as those behind "kubectl proxy", programs
// with pages that have no host ("null", "file://", "app://…", "vscode-webview://…"),
// and libraries that make up an Origin of the address they call.
func Foreign(r *http.Request, own func(host string) bool) string {
	local := func(host string) bool { return own(host) || host == dockerHost && !MayBeBrowser(r) }
	site := r.Header.Get("Sec-Fetch-Site") // browsers set it, and no page can change it
	origin, has := r.Header["Origin"]
	switch {
	case !here(r.Host, local):
		return "the Host header names another machine"
	case site != "same-origin" && slices.ContainsFunc(origin, func(o string) bool { return foreign(o, local) }):
		// "same-origin" as a proxy saw it that passes on what its own page asks
		// for: a browser that called this address would say otherwise.
		return "it comes from a web page"
	case !has && site == "cross-site":
		return "it comes from a web page"
	}
	return ""
}

// here reports whether a Host header names a port of this machine.
func here(hostport string, local func(host string) bool) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback() && !ip.Is4In6() // browsers send that no Sec-Fetch-Site
	}
	// No DNS answers for names below localhost: front ends such as Tauri's call
	// themselves so.
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || local(host)
}

// foreign reports whether an Origin is that of a web page from elsewhere.
func foreign(origin string, local func(host string) bool) bool {
	u, err := url.Parse(origin)
	if err != nil {
		return true
	}
	return (u.Scheme == "http" || u.Scheme == "https") && !here(u.Host, local)
}

// MayBeBrowser reports whether a request has anything that browsers send and the
// libraries of programs do not. Node.js sends Sec-Fetch-Mode, and kubectl asks for a
// WebSocket, which browsers do with an Origin.
func MayBeBrowser(r *http.Request) bool {
	for name := range r.Header {
		switch name {
		case "Origin", "Referer", "Cookie":
			return true
		}
		if strings.HasPrefix(name, "Sec-") && name != "Sec-Fetch-Mode" && !strings.HasPrefix(name, "Sec-Websocket-") {
			return true
		}
	}
	return strings.Contains(r.UserAgent(), "Mozilla/")
}
