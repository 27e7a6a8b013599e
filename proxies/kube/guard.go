package kube

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// fromBrowser returns why a request looks like a web page's; empty means that
// it does not. Pages cannot show the client cert unless the user has imported
// it into the browser: this is the second lock on that door.
func fromBrowser(r *http.Request) string {
	switch {
	case !loopbackHost(r.Host):
		// A page whose name was made to point to 127.0.0.1.
		return "the Host header names another machine"
	case r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "":
		return "it asks for leave to call from a web page"
	case foreignOrigin(r):
		return "it comes from a web page"
	}
	switch r.Header.Get("Sec-Fetch-Site") { // browsers set it, and no page can change it
	case "", "none", "same-origin":
		return ""
	default:
		return "it comes from a web page"
	}
}

// loopbackHost reports whether a Host header names this listener.
func loopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	return host == "localhost" || host == Domain || ours(host)
}

// foreignOrigin reports whether the request was made by a page that did not
// come from here.
func foreignOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || u.Scheme != "https" || !strings.EqualFold(u.Host, r.Host)
}
