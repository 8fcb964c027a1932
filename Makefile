# A thin alias of dev.py, which needs no make.
.PHONY: up down test check
up down test check:
	@python3 dev.py $@ $(ARGS)
