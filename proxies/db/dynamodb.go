package db

import "net/http"

// dynamodb's clients need some AWS credentials, but not good ones.
var dynamodb = Protocol{
	Name:        "dynamodb",
	Title:       "DynamoDB",
	ALPN:        "teleport-dynamodb",
	Native:      true,
	NeedsDBUser: true,
	opens:       httpOpens,
	refuse:      refuseHTTP(dynamoPage),
	secure:      secureDirect(alpnHTTP),
	client: client{
		text: map[Format]func(Endpoint) string{URL: httpURL},
		env: func(e Endpoint) []string {
			return []string{"AWS_ENDPOINT_URL_DYNAMODB=" + httpURL(e), "AWS_ENDPOINT_URL_DYNAMODB_STREAMS=" + httpURL(e)}
		},
		clear: []string{"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"},
		command: func(e Endpoint) []string {
			return []string{"aws", "--endpoint-url", httpURL(e), "dynamodb", "list-tables"}
		},
	},
}

// dynamoPage is an error of DynamoDB. Source: Amazon DynamoDB developer guide,
// "Error handling": the part of __type after the "#" is the error's name.
func dynamoPage(r Refusal) page {
	name, status := "ServiceUnavailable", httpStatus(r.Kind)
	switch status {
	case http.StatusForbidden:
		name = "AccessDeniedException"
	case http.StatusNotFound:
		name = "ResourceNotFoundException"
	}
	return page{
		status: status, contentType: "application/x-amz-json-1.0",
		body: jsonText(map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#" + name, "message": r.wholeLine()}),
	}
}
