package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"

	"berth/internal/testwait"
)

// person is a browser with alice at it, as a program: it opens the login page
// it is given and follows the link that logs her in.
func person() {
	if err := logInAt(os.Args[len(os.Args)-1]); err != nil {
		fmt.Fprintln(os.Stderr, "person:", err)
		os.Exit(1)
	}
}

func logInAt(address string) error {
	raw, err := os.ReadFile(os.Getenv("WEB_CA"))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(raw)
	browser := &http.Client{Timeout: testwait.Patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	page, at, err := get(browser, address)
	if err != nil {
		return err
	}
	link := regexp.MustCompile(`href="([^"]*user=alice[^"]*)"`).FindStringSubmatch(page)
	if link == nil {
		return fmt.Errorf("no way to log in on %s", at)
	}
	next, err := at.Parse(strings.ReplaceAll(link[1], "&amp;", "&"))
	if err != nil {
		return err
	}
	_, _, err = get(browser, next.String())
	return err
}

func get(browser *http.Client, address string) (page string, at *url.URL, err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
	if err != nil {
		return "", nil, err
	}
	resp, err := browser.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), resp.Request.URL, err
}
