import django.db.models.deletion
import django.utils.timezone
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0004_operator_models'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='RuleProposal',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('proposed_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('not_before', models.DateTimeField()),
                ('told_at', models.DateTimeField(blank=True, null=True)),
                ('withdrawn_at', models.DateTimeField(blank=True, null=True)),
                ('adopted_at', models.DateTimeField(blank=True, null=True)),
                ('instead_of', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.splitrule')),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='rule_proposals', to='marketplace.listedmodel')),
                ('price_list', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='rule_proposal', to='marketplace.pricelist')),
                ('proposed_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('split_rule', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='marketplace.splitrule')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('told_at__isnull', True)), fields=['proposed_at'], name='rule_proposal_to_be_told')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('adopted_at__isnull', True), ('withdrawn_at__isnull', True)), fields=('model',), name='model_has_one_open_rule_proposal'), models.CheckConstraint(condition=models.Q(models.Q(('adopted_at__isnull', True), ('price_list__isnull', True)), models.Q(('adopted_at__gte', models.F('not_before')), ('adopted_at__isnull', False), ('price_list__isnull', False), ('withdrawn_at__isnull', True)), _connector='OR'), name='proposed_rule_takes_effect_with_a_price_list_after_its_lock'), models.CheckConstraint(condition=models.Q(('split_rule', models.F('instead_of')), _negated=True), name='proposed_rule_is_another_one')],
            },
        ),
    ]
