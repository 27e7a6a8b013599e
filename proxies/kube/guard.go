package kube

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// fromBrowser returns why a request looks like one that a foreign web page had
// a browser make; empty means that it does not.
//
// Whoever shows the client cert is trusted, and no page can show it unless the
// user has imported it into the browser. For that case this is the second lock:
// a page must have a name of its own, in Host if the name was made to point to
// this machine, else in Origin, and browsers set both. Everything else is a
// client's: pages of this machine, such as those behind "kubectl proxy", programs
// with pages that have no host ("null", "file://", "app://…", "vscode-webview://…"),
// and libraries that make up an Origin of the address they call.
func fromBrowser(r *http.Request) string {
	site := r.Header.Get("Sec-Fetch-Site") // browsers set it, and no page can change it
	origin, has := r.Header["Origin"]
	switch {
	case !loopbackHost(r.Host):
		return "the Host header names another machine"
	case r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "":
		return "it asks for leave to call from a web page"
	case has && slices.ContainsFunc(origin, foreign) && site != "same-origin":
		// "same-origin" as a proxy saw it that passes on what its own page asks
		// for: a browser that called this address would say otherwise.
		return "it comes from a web page"
	case !has && site == "cross-site":
		return "it comes from a web page"
	}
	return ""
}

// loopbackHost reports whether a Host header names this listener.
func loopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	// No DNS answers for names below localhost: front ends such as Tauri's call
	// themselves so.
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || host == Domain || ours(host)
}

// foreign reports whether an Origin is that of a web page from elsewhere.
func foreign(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil {
		return true
	}
	return (u.Scheme == "http" || u.Scheme == "https") && !loopbackHost(u.Host)
}
