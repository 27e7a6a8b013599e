package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"berth/agent/config"
)

// maxMistakes is how many mistakes of the config are listed one by one.
const maxMistakes = 20

func (d *doctor) loadConfig() configFacts {
	cfg, err := config.Load(d.Paths.Config)
	if err != nil {
		return configFacts{cfg: config.Default(), err: err}
	}
	return configFacts{cfg: cfg}
}

func (d *doctor) checkConfig(context.Context) []Finding {
	warnings, err := config.Check(d.Paths.Config)
	if err != nil {
		bad, ok := errors.AsType[*config.Error](err)
		if !ok {
			return one("config", Fail, err.Error(), "berth config edit")
		}
		return mistakes(Fail, bad.Mistakes)
	}
	if _, err := os.Stat(d.Paths.Config); errors.Is(err, fs.ErrNotExist) {
		return one("config", OK, "there is no config file yet: "+d.Paths.Config, "")
	}
	if len(warnings) > 0 {
		return mistakes(Warn, warnings)
	}
	return one("config", OK, d.Paths.Config+" has no mistakes", "")
}

func mistakes(status Status, list []config.Mistake) []Finding {
	var found []Finding
	for i, m := range list {
		if i == maxMistakes {
			return append(found, one("config", status, fmt.Sprintf("and %d more mistakes", len(list)-i), "berth config check")...)
		}
		found = append(found, one("config", status, "config "+m.String(), "berth config edit")...)
	}
	return found
}
