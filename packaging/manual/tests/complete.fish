# Prints what fish offers for each line among the arguments.
source $COMPLETIONS/forebay.fish
for line in $argv
    # A description stands behind a tab.
    complete -C $line | string replace -r '\t.*' ''
    echo END
end
