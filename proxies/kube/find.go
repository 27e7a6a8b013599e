package kube

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"berth/internal/plain"
)

// apiRoots are what paths of an API server begin with. A tunnel of such a name
// is found by its server name alone.
var apiRoots = []string{
	"api", "apis", "debug", "healthz", "livez", "logs", "metrics", "openapi", "openid", "readyz", "swagger-ui", "swagger.json",
	"ui", "version",
}

// PathOf returns the path under which a shared listener serves the tunnel to
// clients that know no server name; empty means that there is none.
func PathOf(tunnel string) string {
	if slices.Contains(apiRoots, tunnel) {
		return ""
	}
	return "/" + url.PathEscape(tunnel)
}

// found is what a request is for.
type found struct {
	tunnel *Tunnel
	r      *http.Request // as the tunnel is to see it
	why    Refusal       // if there is no tunnel
}

// find finds the tunnel of a request by the server name of the handshake. To
// clients that know none, the first part of the path names the tunnel, unless
// the port leads to one only.
func (l *Listener) find(r *http.Request) found {
	serverName := strings.ToLower(r.TLS.ServerName)
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if slices.Contains(apiRoots, first) {
		first = ""
	}
	l.mu.Lock()
	t := cmp.Or(l.tunnels[serverName], l.only)
	byPath := l.tunnels[ServerName(first)]
	l.mu.Unlock()
	switch {
	case t != nil:
		if strings.EqualFold(t.cfg.Name, first) {
			r = below(r, first)
		}
		return found{tunnel: t, r: r}
	case ours(serverName):
		return found{r: r, why: l.cfg.Absent(serverName)}
	case byPath != nil && first != "":
		return found{tunnel: byPath, r: below(r, first)}
	}
	names := l.names()
	var meant string
	alike := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, first) })
	switch {
	case slices.Contains(names, first): // it is stopped
		meant, r = first, below(r, first)
	case alike >= 0:
		meant, r = names[alike], below(r, first)
	case len(names) == 1: // also while it is stopped
		meant = names[0]
	default:
		// kubectl reads the refusal of a path of the API's only.
		return found{r: below(r, first), why: nameless(r.Host, first, names)}
	}
	l.mu.Lock()
	t = l.tunnels[ServerName(meant)]
	l.mu.Unlock()
	if t == nil {
		return found{r: r, why: l.cfg.Absent(ServerName(meant))}
	}
	return found{tunnel: t, r: r}
}

// names are the tunnels of this port, whether they run or not.
func (l *Listener) names() []string {
	if l.cfg.Names != nil {
		return l.cfg.Names()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, t := range l.tunnels {
		names = append(names, t.cfg.Name)
	}
	slices.Sort(names)
	return names
}

// namesMax is how many tunnels a refusal names.
const namesMax = 20

// nameless refuses a client that does not say which tunnel it wants, or names one
// that is not among names. It is no 404: with --ignore-not-found kubectl takes one
// for an object that the cluster does not have.
func nameless(host, asked string, names []string) Refusal {
	if len(names) == 0 {
		return Refusal{Code: http.StatusForbidden, Message: "berth has no tunnel on this port; to list the tunnels: berth tunnel ls"}
	}
	more := ""
	if len(names) > namesMax {
		names, more = names[:namesMax], " and more"
	}
	why := "nothing here names one of them"
	if asked != "" {
		why = fmt.Sprintf("none of them is called %q", plain.Head(asked, 100))
	}
	return Refusal{
		Code: http.StatusForbidden,
		Message: fmt.Sprintf("several tunnels share this port, and %s: "+
			"set the server to https://%s/NAME, or the TLS server name to that of berth's kubeconfig; NAME is one of %s%s",
			why, host, strings.Join(names, ", "), more),
	}
}

type prefixKey struct{} // of the part of the path that named the tunnel, in a request's context

// below returns the request as one for what is below the first part of its path.
func below(r *http.Request, first string) *http.Request {
	out := r.WithContext(context.WithValue(r.Context(), prefixKey{}, "/"+url.PathEscape(first)))
	u := *r.URL
	u.Path = "/" + strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(u.Path, "/"), first), "/")
	if _, rest, ok := strings.Cut(strings.TrimPrefix(u.RawPath, "/"), "/"); ok {
		u.RawPath = "/" + rest
	} else {
		u.RawPath = ""
	}
	out.URL = &u
	return out
}

// redirectBelow puts the part of the path that named the tunnel before where an
// answer sends the client.
func redirectBelow(resp *http.Response) {
	prefix, _ := resp.Request.Context().Value(prefixKey{}).(string)
	to := resp.Header.Get("Location")
	if prefix != "" && strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "//") {
		resp.Header.Set("Location", prefix+to)
	}
}
