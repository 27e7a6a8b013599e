package db

import "net/http"

var elasticsearch = Protocol{
	Name:        "elasticsearch",
	Title:       "Elasticsearch",
	ALPN:        "teleport-elasticsearch",
	Native:      true,
	NeedsDBUser: true,
	guess:       isHTTP, // of all the pages this one is the easiest to read
	opens:       httpOpens,
	refuse:      refuseHTTP(elasticPage),
	secure:      secureDirect(alpnHTTP),
	client: client{
		text:    map[Format]func(Endpoint) string{URL: httpURL},
		env:     func(e Endpoint) []string { return []string{"ELASTICSEARCH_URL=" + httpURL(e)} },
		command: curl,
	},
}

var opensearch = Protocol{
	Name:        "opensearch",
	Title:       "OpenSearch",
	ALPN:        "teleport-opensearch",
	Native:      true,
	NeedsDBUser: true,
	opens:       httpOpens,
	refuse:      refuseHTTP(elasticPage),
	secure:      secureDirect(alpnHTTP),
	client: client{
		text:    map[Format]func(Endpoint) string{URL: httpURL},
		env:     func(e Endpoint) []string { return []string{"OPENSEARCH_URL=" + httpURL(e)} },
		command: curl,
	},
}

// elasticPage is an error of Elasticsearch and OpenSearch. Source:
// Elasticsearch REST APIs, "Error responses" (common options).
func elasticPage(r Refusal) page {
	kind, status := "status_exception", httpStatus(r.Kind)
	switch status {
	case http.StatusForbidden:
		kind = "security_exception"
	case http.StatusNotFound:
		kind = "resource_not_found_exception"
	}
	cause := map[string]any{"type": kind, "reason": r.wholeLine()}
	whole := map[string]any{"type": kind, "reason": r.wholeLine(), "root_cause": []any{cause}}
	return page{
		status: status, contentType: "application/json",
		body: jsonText(map[string]any{"error": whole, "status": status}),
	}
}
