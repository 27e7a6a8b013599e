package tsh

import (
	"context"
	"fmt"
	"strings"
)

// Assume reissues the certs of the valid session in cfg's home with an approved
// access request. tsh waits without end for a pending request: ctx must have an
// end. The error is an [*ExitError] when tsh refuses.
func Assume(ctx context.Context, cfg LoginConfig, requestID string) error {
	return reissue(ctx, cfg, "--request-id="+requestID)
}

// SelectCluster makes a leaf cluster the selected one of the valid session in
// cfg's home, as "tsh login LEAF" does.
func SelectCluster(ctx context.Context, cfg LoginConfig, leaf string) error {
	if leaf == "" || strings.HasPrefix(leaf, "-") {
		return fmt.Errorf("%q is no cluster's name", leaf)
	}
	return reissue(ctx, cfg, leaf)
}

// reissue runs "tsh login" on a valid session, which asks the user nothing.
func reissue(ctx context.Context, cfg LoginConfig, what string) error {
	args := []string{"login", "--proxy=" + cfg.Proxy}
	if cfg.User != "" {
		args = append(args, "--user="+cfg.User)
	}
	c := Command(ctx, cfg.Path, cfg.Home, append(append(args, cfg.always()...), what)...)
	if cfg.CAFile != "" {
		c.TrustCA(cfg.CAFile)
	}
	_, err := c.Output()
	return err
}
