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
	answers:     httpAnswers,
	login:       httpProbe,
	refuse:      refuseHTTP(elasticPage),
	secure:      secureHTTP,
	client: client{
		text: map[Format]func(Endpoint) string{URL: httpURL},
		noCA: httpNoCA,
		env: func(e Endpoint) []string {
			url := httpURL(e)
			return []string{"ELASTICSEARCH_URL=" + url, "ELASTICSEARCH_HOSTS=" + url, "ELASTICSEARCH_ENDPOINTS=" + url, "ES_URL=" + url}
		},
		clear: []string{
			"ELASTICSEARCH_HOST", "ELASTICSEARCH_PORT", "ELASTICSEARCH_USERNAME", "ELASTICSEARCH_PASSWORD",
			"ELASTICSEARCH_API_KEY", "ELASTICSEARCH_BEARER_TOKEN", "ELASTIC_CLOUD_ID", "ES_HOST", "ES_PORT",
		},
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
	answers:     httpAnswers,
	login:       httpProbe,
	refuse:      refuseHTTP(elasticPage),
	secure:      secureHTTP,
	client: client{
		text: map[Format]func(Endpoint) string{URL: httpURL},
		noCA: httpNoCA,
		env: func(e Endpoint) []string {
			return []string{"OPENSEARCH_URL=" + httpURL(e), "OPENSEARCH_ENDPOINT=" + httpURL(e)}
		},
		clear: []string{
			"OPENSEARCH_HOST", "OPENSEARCH_HOSTS", "OPENSEARCH_PORT", "OPENSEARCH_USER", "OPENSEARCH_USERNAME", "OPENSEARCH_PASSWORD",
			"OPENSEARCH_PROFILE",
		},
		command:  curl,
		programs: []program{{names: []string{"opensearch-cli"}}},
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
